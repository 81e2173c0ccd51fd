//! Who may do what with notebooks, jobs and other objects (databricks-api §4.4, §7).

/// Which kind of identity a name stands for. Users are named by e-mail, service principals by their application id (a
/// UUID), groups by display name; the name is all that tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    User,
    Group,
    ServicePrincipal,
}

impl Principal {
    pub(crate) fn of(name: &str) -> Principal {
        let parts: Vec<usize> = name.split('-').map(str::len).collect();
        if parts == [8, 4, 4, 4, 12] && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
            return Principal::ServicePrincipal;
        }
        if name.contains('@') { Principal::User } else { Principal::Group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_it_stands_for() {
        for (name, principal) in [
            ("ana@example.com", Principal::User),
            ("data-engineers", Principal::Group),
            ("Data Team", Principal::Group),
            ("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11", Principal::ServicePrincipal),
            ("0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d1x", Principal::Group),
        ] {
            assert_eq!(Principal::of(name), principal, "{name}");
        }
    }
}
