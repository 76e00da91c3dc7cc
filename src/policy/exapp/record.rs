//! What Nextcloud says about an ExApp: where it is, how to speak to it, and who may.

use super::routes::{Level, ROUTES_MAX, Routes};
use crate::config::settings::Secret;
use serde_json::{Map, Value};
use std::fmt;

/// A known ExApp.
#[derive(Debug)]
pub struct Record {
    /// The ExApp's own secret.
    pub token: Secret,
    pub version: String,
    /// A name or an address, without port.
    pub host: String,
    pub port: u16,
    pub routes: Routes,
}

/// Why a text is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    NotJson,
    /// The field that is missing or of another shape.
    Field(&'static str),
    TooManyRoutes,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::NotJson => f.write_str("it is not JSON"),
            Invalid::Field(field) => write!(f, "field {field} is missing or not as expected"),
            Invalid::TooManyRoutes => write!(f, "more than {ROUTES_MAX} routes"),
        }
    }
}

impl Record {
    /// Reads the answer of `exapp-meta`, or the body of a push; both have the same form. Other fields are ignored.
    pub fn parse(text: &[u8]) -> Result<Record, Invalid> {
        let value: Value = serde_json::from_slice(text).map_err(|_| Invalid::NotJson)?;
        let fields = value.as_object().ok_or(Invalid::Field("object"))?;
        let string = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(Invalid::Field(name));
        let version = string("exapp_version")?;
        let host = string("host")?;
        Ok(Record {
            token: Secret(string("exapp_token")?.as_bytes().into()),
            version: is_field_value(version).then(|| version.to_owned()).ok_or(Invalid::Field("exapp_version"))?,
            host: is_host(host).then(|| host.to_owned()).ok_or(Invalid::Field("host"))?,
            port: fields.get("port").and_then(port).ok_or(Invalid::Field("port"))?,
            routes: fields.get("routes").map_or(Ok(Routes::default()), routes)?,
        })
    }

    /// What AppAPI itself says in the headers of a signed request, for an ExApp that Nextcloud does not tell about yet.
    pub fn of_headers(version: &[u8], host: &[u8], port: &[u8]) -> Option<Record> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let port: u16 = text(port)?.trim().parse().ok().filter(|port| *port != 0)?;
        Some(Record {
            token: Secret([].into()),
            version: text(version).filter(|version| is_field_value(version))?.to_owned(),
            host: text(host).filter(|host| is_host(host))?.to_owned(),
            port,
            routes: Routes::default(),
        })
    }
}

/// It becomes a header.
fn is_field_value(text: &str) -> bool {
    text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn is_host(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(is_allowed)
}

/// HaRP takes a number written as text or with a zero fraction as well.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn port(value: &Value) -> Option<u16> {
    integer(value).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn routes(value: &Value) -> Result<Routes, Invalid> {
    let list = value.as_array().ok_or(Invalid::Field("routes"))?;
    if list.len() > ROUTES_MAX {
        return Err(Invalid::TooManyRoutes);
    }
    let mut routes = Routes::default();
    for route in list {
        let (url, level, statuses) = route.as_object().ok_or(Invalid::Field("routes")).and_then(route_of)?;
        routes.add(url, level, statuses);
    }
    Ok(routes)
}

fn route_of(fields: &Map<String, Value>) -> Result<(String, Level, Vec<u16>), Invalid> {
    let url = fields.get("url").and_then(Value::as_str).ok_or(Invalid::Field("url"))?;
    let level = fields.get("access_level").and_then(integer).and_then(Level::from_number);
    let statuses = match fields.get("bruteforce_protection") {
        None => Vec::new(),
        Some(value) => value
            .as_array()
            .and_then(|list| list.iter().map(integer).collect::<Option<Vec<_>>>())
            .ok_or(Invalid::Field("bruteforce_protection"))?,
    };
    // A number that is no status never comes.
    let statuses = statuses.into_iter().filter_map(|status| u16::try_from(status).ok()).collect();
    Ok((url.to_owned(), level.ok_or(Invalid::Field("access_level"))?, statuses))
}

/// What Nextcloud says about who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Empty for nobody.
    pub id: String,
    pub level: Level,
}

impl User {
    /// Reads the answer of `user-info`.
    pub fn parse(text: &[u8]) -> Option<User> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let fields = value.as_object()?;
        let id = fields.get("user_id").map_or(Some(""), Value::as_str)?.to_owned();
        Some(User { id, level: Level::from_number(fields.get("access_level").and_then(integer)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":23000,"other":1,
        "routes":[{"url":"^/public$","access_level":0},{"url":"^/login$","access_level":0,"bruteforce_protection":[401]}]}"#;

    fn without(field: &str) -> Result<Record, Invalid> {
        let mut value: Value = serde_json::from_str(WHOLE).unwrap();
        value.as_object_mut().unwrap().remove(field);
        Record::parse(value.to_string().as_bytes())
    }

    fn with(field: &str, text: &str) -> Result<Record, Invalid> {
        let mut value: Value = serde_json::from_str(WHOLE).unwrap();
        value[field] = serde_json::from_str(text).unwrap();
        Record::parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_record_is_read_whole() {
        let record = Record::parse(WHOLE.as_bytes()).unwrap();
        assert!(record.token.matches(b"T"));
        assert_eq!((record.version.as_str(), record.host.as_str(), record.port), ("1.0.0", "127.0.0.1", 23000));
        assert_eq!(record.routes.rule(b"/login").unwrap().statuses, [401]);
        assert!(without("routes").unwrap().routes.is_empty());
        assert_eq!(with("port", "\"23001\"").unwrap().port, 23001);
        assert_eq!(with("port", "23001.0").unwrap().port, 23001);
    }

    #[test]
    fn case_25_a_record_without_its_fields_is_invalid_and_says_which() {
        for field in ["exapp_token", "exapp_version", "host", "port"] {
            assert_eq!(without(field).unwrap_err(), Invalid::Field(field));
        }
        for (field, text) in [
            ("port", "0"),
            ("port", "65536"),
            ("port", "-1"),
            ("port", "1.5"),
            ("port", "true"),
            ("exapp_version", "\"1\\r\\nX: y\""),
            ("exapp_version", "1"),
            ("host", "\"a/b\""),
            ("host", "\"\""),
            ("host", "null"),
            ("routes", "{}"),
            ("routes", "null"),
            ("routes", "[1]"),
        ] {
            assert_eq!(
                with(field, text).unwrap_err(),
                Invalid::Field(if field == "routes" { "routes" } else { field })
            );
        }
        assert_eq!(with("routes", r#"[{"access_level":0}]"#).unwrap_err(), Invalid::Field("url"));
        assert_eq!(with("routes", r#"[{"url":"a","access_level":3}]"#).unwrap_err(), Invalid::Field("access_level"));
        let statuses = r#"[{"url":"a","access_level":0,"bruteforce_protection":401}]"#;
        assert_eq!(with("routes", statuses).unwrap_err(), Invalid::Field("bruteforce_protection"));
        assert_eq!(Record::parse(b"{").unwrap_err(), Invalid::NotJson);
        assert_eq!(Record::parse(b"[]").unwrap_err(), Invalid::Field("object"));
        let many = vec![r#"{"url":"a","access_level":0}"#; 513].join(",");
        assert_eq!(with("routes", &format!("[{many}]")).unwrap_err(), Invalid::TooManyRoutes);
    }

    #[test]
    fn a_record_never_shows_its_token() {
        let secret = WHOLE.replace("\"T\"", "\"sesame-open\"");
        assert!(!format!("{:?}", Record::parse(secret.as_bytes()).unwrap()).contains("sesame"));
    }

    #[test]
    fn headers_make_a_record_when_they_are_sane() {
        let record = Record::of_headers(b"1.2", b"app", b"23000").unwrap();
        assert_eq!((record.host.as_str(), record.port), ("app", 23000));
        for port in ["x", "", "0", "70000", "-1"] {
            assert!(Record::of_headers(b"1", b"h", port.as_bytes()).is_none(), "{port}");
        }
        assert!(Record::of_headers(b"1", b"h/x", b"1").is_none());
        assert!(Record::of_headers(b"1", b"\xff", b"1").is_none());
    }

    #[test]
    fn a_user_is_read_with_its_default() {
        let user = |text: &str| User::parse(text.as_bytes()).map(|user| (user.id, user.level));
        assert_eq!(user(r#"{"user_id":"alice","access_level":1}"#), Some(("alice".into(), Level::User)));
        assert_eq!(user(r#"{"access_level":0}"#), Some((String::new(), Level::Public)));
        for text in ["", "[]", r#"{"user_id":1,"access_level":1}"#, r#"{"user_id":"a"}"#, r#"{"access_level":9}"#] {
            assert_eq!(user(text), None, "{text}");
        }
    }
}
