//! The validity of a certificate: the one field of X.509 that rustls does not show (RFC 5280 §4.1.2.5).
//!
//! ```text
//! Certificate    SEQUENCE { TBSCertificate, ... }
//! TBSCertificate SEQUENCE { [0] version?, serial INTEGER, signature SEQUENCE, issuer SEQUENCE, Validity, ... }
//! Validity       SEQUENCE { notBefore Time, notAfter Time }     Time is UTCTime or GeneralizedTime, in UTC
//! ```

use super::calendar::days_from_civil;

/// Seconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `None` when the bytes are not laid out as a certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (tag, certificate, _) = element(certificate)?;
    let (tbs_tag, tbs, _) = element(certificate)?;
    if tag != SEQUENCE || tbs_tag != SEQUENCE {
        return None;
    }
    let (first, _, after_first) = element(tbs)?;
    let after_serial = if first == VERSION { element(after_first)?.2 } else { after_first };
    let after_signature = element(after_serial)?.2;
    let after_issuer = element(after_signature)?.2;
    let (tag, validity, _) = element(after_issuer)?;
    if tag != SEQUENCE {
        return None;
    }
    let (tag, not_before, rest) = element(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Some(Validity { not_before, not_after: time(tag, not_after)? })
}

/// Tag, content and rest of one DER element with a definite length of at most 65,535 bytes.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(digits, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(digits, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    if !rest.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(digits: &[u8], width: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = digits.split_at_checked(width)?;
    let text = std::str::from_utf8(head).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    Some((text.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::calendar::show_day;

    #[test]
    fn reads_the_validity_of_a_generated_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["cloud.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2055, 3, 4);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let validity = validity(certificate.der()).unwrap();
        assert_eq!(show_day(validity.not_before), "2020-01-02");
        assert_eq!(show_day(validity.not_after), "2055-03-04");
    }

    #[test]
    fn every_truncation_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der: &[u8] = certificate.der();
        for length in 0..der.len() {
            assert_eq!(validity(der.get(..length).unwrap()), None);
        }
    }
}
