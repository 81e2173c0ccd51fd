//! Origins to which a credential may be sent. They are checked here once and then carried as a type.

use std::borrow::Cow;
use std::fmt;

use url::{Host, Url};

use crate::secret::MASK;

/// `https://host[:port]`, or `http://` with a literal loopback address, and nothing after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(Url);

/// Why a credential must not be sent to a text's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOrigin {
    #[error("it is empty")]
    Empty,
    #[error("it is not a host name or address")]
    NotUrl,
    #[error("only https is allowed, except for a loopback address such as 127.0.0.1")]
    PlainHttp,
    #[error("only https is allowed")]
    OtherScheme,
    #[error("it contains a user name or password")]
    UserInfo,
}

impl Origin {
    /// Parses a host, with or without scheme; anything after the host is dropped.
    pub(crate) fn parse(text: &str) -> Result<Origin, BadOrigin> {
        Url::parse(&with_scheme(text)?).map_err(|_| BadOrigin::NotUrl).and_then(|url| Origin::of(&url))
    }

    /// The origin of a URL.
    pub(crate) fn of(url: &Url) -> Result<Origin, BadOrigin> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadOrigin::UserInfo);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(url) => {}
            "http" => return Err(BadOrigin::PlainHttp),
            _ => return Err(BadOrigin::OtherScheme),
        }
        // URLs allow more characters than DNS names have.
        let in_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() && name.bytes().all(in_names) => {}
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => {}
            Some(Host::Domain(_)) | None => return Err(BadOrigin::NotUrl),
        }
        let mut bare = url.clone();
        bare.set_path("");
        bare.set_query(None);
        bare.set_fragment(None);
        Ok(Origin(bare))
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The host name or address, without port.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the host is this domain or a subdomain.
    pub(crate) fn is_under(&self, domain: &str) -> bool {
        let host = self.host();
        host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
    }
}

impl fmt::Display for Origin {
    /// Without a trailing slash.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Whether the host is a literal loopback address. A name such as `localhost` is not: it can be made to point
/// elsewhere.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Prepends `https://` to a text without a scheme. The caller must write `http://` for a literal loopback address:
/// guessing would weaken the rule.
pub(crate) fn with_scheme(text: &str) -> Result<String, BadOrigin> {
    let text = text.trim();
    if text.is_empty() {
        return Err(BadOrigin::Empty);
    }
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err(BadOrigin::NotUrl);
    }
    Ok(if text.contains("://") { text.to_owned() } else { format!("https://{text}") })
}

/// The text as shown in messages: without the user name and password of a URL, which may be a token.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |end| end + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |end| start + end);
    match text[start..end].rfind('@') {
        Some(at) => Cow::Owned(format!("{}{MASK}{}", &text[..start], &text[start + at..])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_an_address_without_user_name_and_password() {
        for (text, seen) in [
            ("https://ana:dapi0123@x.example/a@b", "https://[secret]@x.example/a@b"),
            ("dapi0123@x.example", "[secret]@x.example"),
            ("https://a@b@x", "https://[secret]@x"),
            ("https://x.example/a@b?c=d@e", "https://x.example/a@b?c=d@e"),
            ("ä@", "[secret]@"),
            ("", ""),
        ] {
            assert_eq!(shown(text), seen);
        }
    }

    #[test]
    fn only_https_is_spoken_except_to_a_literal_loopback_address() {
        for (text, origin) in [
            ("ab123.us1.dbt.com", Ok("https://ab123.us1.dbt.com")),
            ("https://ab123.us1.dbt.com/api/v2/", Ok("https://ab123.us1.dbt.com")),
            ("https://x.azuredatabricks.net/?o=12#job/3", Ok("https://x.azuredatabricks.net")),
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080")),
            ("http://[::1]:8080/", Ok("http://[::1]:8080")),
            ("http://localhost:8080", Err(BadOrigin::PlainHttp)),
            ("http://127.0.0.1.evil.example", Err(BadOrigin::PlainHttp)),
            ("http://ab123.us1.dbt.com", Err(BadOrigin::PlainHttp)),
            ("https://token@ab123.us1.dbt.com", Err(BadOrigin::UserInfo)),
            ("ftp://ab123", Err(BadOrigin::OtherScheme)),
            ("  ", Err(BadOrigin::Empty)),
            ("a b", Err(BadOrigin::NotUrl)),
        ] {
            let parsed = Origin::parse(text).map(|origin| origin.to_string());
            assert_eq!(parsed.as_deref(), origin.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn a_domain_is_left_only_at_a_dot() {
        assert!(Origin::parse("ab.us1.dbt.com").unwrap().is_under("dbt.com"));
        assert!(!Origin::parse("evildbt.com").unwrap().is_under("dbt.com"));
    }
}
