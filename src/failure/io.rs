//! Words for errors of files and streams, without the text of the library.

use std::io::{Error, ErrorKind};

/// Why a file or stream cannot be used: `permission denied`.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's kinds grow, and the rest has words of its own")]
pub(crate) fn io_reason(error: &Error) -> String {
    let words = match error.kind() {
        ErrorKind::NotFound => "no such file or directory",
        ErrorKind::PermissionDenied => "permission denied",
        ErrorKind::IsADirectory => "it is a directory",
        ErrorKind::NotADirectory => "a part of the path is not a directory",
        ErrorKind::InvalidData => "it is not UTF-8 text",
        ErrorKind::StorageFull => "the disk is full",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        ErrorKind::BrokenPipe => "broken pipe",
        // An error of our own, or the system's words.
        _ => {
            let text = error.to_string();
            return text.split(" (os error").next().unwrap_or_default().to_owned();
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_library_and_no_number_of_the_system_is_shown() {
        assert_eq!(
            io_reason(&Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8")),
            "it is not UTF-8 text"
        );
        assert_eq!(io_reason(&Error::from_raw_os_error(2)), "no such file or directory");
        assert!(!io_reason(&Error::from_raw_os_error(24)).contains("os error"));
        assert_eq!(io_reason(&Error::other("it is too long")), "it is too long");
    }
}
