//! Reads the expiry time of a certificate, for display.
//!
//! The TLS library has validated the certificate before. This parser knows only the fields up to the validity (RFC
//! 5280, section 4.1) and returns `None` for anything else.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the end of the validity period of a DER certificate.
pub(super) fn valid_until(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // Optional: version 1 certificates omit it.
    if let Some((_, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    time(not_after)?.0
}

/// Splits off the first element if it has this tag; returns its content and the remaining bytes.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    if first != tag {
        return None;
    }
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if long.len() > 4 {
            return None;
        }
        (long.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

/// Splits off the first time; returns it, or `None` if it is out of range, and the remaining bytes.
fn time(der: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    if let Some((text, rest)) = element(der, GENERALIZED_TIME) {
        return Some((moment(str::from_utf8(text).ok()?), rest));
    }
    let (text, rest) = element(der, UTC_TIME)?;
    let text = str::from_utf8(text).ok()?;
    // Two-digit years are 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
    let century = if text < "5" { "20" } else { "19" };
    Some((moment(&format!("{century}{text}")), rest))
}

/// Parses `20271124000000Z`. `99991231235959Z`, which means no expiry, is out of jiff's range and gives `None`.
fn moment(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_of_its_forms() {
        for (year, expected) in
            [(2027, "2027-11-24T00:00:00Z"), (2049, "2049-11-24T00:00:00Z"), (2050, "2050-11-24T00:00:00Z")]
        {
            assert_eq!(valid_until(&made(year, 11, 24)).unwrap().to_string(), expected);
        }
        assert_eq!(time(b"\x17\x0d991231235959Z").unwrap().0.unwrap().to_string(), "1999-12-31T23:59:59Z");
        assert_eq!(time(b"\x18\x0f99991231235959Z").unwrap(), (None, &[][..]));
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_has_no_end_and_no_panic() {
        let whole = made(2027, 11, 24);
        for length in 0..whole.len() {
            assert_eq!(valid_until(&whole[..length]), None, "{length}");
        }
        for der in [&b"\x30\x80"[..], b"\x30\x85\x01\x01\x01\x01\x01", b"\x30\xff", b"\x02\x01\x01", b"\x17\x01\xff"] {
            assert_eq!((valid_until(der), time(der)), (None, None));
        }
        assert_eq!(moment("20271332000000Z"), None);
    }
}
