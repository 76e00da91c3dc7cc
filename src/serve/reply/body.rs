//! Bodies of Lyre's own responses. Self-contained: an error page that loads assets would load them through us.

use crate::serve::reply::Answer;

/// In which language the asker reads errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    Person,
    /// A `d:error` document as SabreDAV writes it: sync clients show its message.
    Dav,
    Json,
    /// The envelope of Nextcloud's OCS API.
    Ocs,
    /// The same in its other language.
    OcsXml,
}

impl Audience {
    pub const ALL: [Audience; 5] = [Audience::Person, Audience::Dav, Audience::Json, Audience::Ocs, Audience::OcsXml];

    /// From what the request says of itself. `target` is raw, `accept` may be empty.
    pub fn of(method: &[u8], target: &[u8], accept: &[u8]) -> Audience {
        const DAV_PATHS: [&[u8]; 3] = [b"/remote.php/", b"/public.php/", b"/dav/"];
        const DAV_METHODS: [&[u8]; 10] = [
            b"PROPFIND",
            b"PROPPATCH",
            b"MKCOL",
            b"COPY",
            b"MOVE",
            b"LOCK",
            b"UNLOCK",
            b"REPORT",
            b"SEARCH",
            b"MKCALENDAR",
        ];
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let (path, query) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if path.starts_with(b"/ocs/") {
            let asks = |format: &[u8]| query.split(|byte| *byte == b'&').any(|pair| pair == format);
            let accepts_xml = contains(accept, b"xml") && !contains(accept, b"json") && !contains(accept, b"html");
            let is_xml = asks(b"format=xml") || accepts_xml && !asks(b"format=json");
            return if is_xml { Audience::OcsXml } else { Audience::Ocs };
        }
        if DAV_METHODS.contains(&method) {
            return Audience::Dav;
        }
        // A browser that follows a link into the DAV tree is still a person.
        if contains(accept, b"text/html") {
            return Audience::Person;
        }
        if DAV_PATHS.iter().any(|prefix| path.starts_with(prefix)) {
            return Audience::Dav;
        }
        if contains(accept, b"json") || path.starts_with(b"/index.php/login/v2") || path.starts_with(b"/status.php") {
            return Audience::Json;
        }
        Audience::Person
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Audience::Person => "text/html; charset=utf-8",
            Audience::Dav | Audience::OcsXml => "application/xml; charset=utf-8",
            Audience::Json | Audience::Ocs => "application/json; charset=utf-8",
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Texts come from the table, the request id is hexadecimal, so nothing needs escaping.
pub fn render(answer: &Answer, status: u16, audience: Audience, request_id: &str) -> String {
    let (reason, text) = (reason(status), answer.text);
    match audience {
        Audience::Person => page(status, text, request_id),
        Audience::Dav => format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\">\n  \
             <s:exception>Sabre\\DAV\\Exception\\{}</s:exception>\n  <s:message>{text}</s:message>\n</d:error>\n",
            sabre(status)
        ),
        Audience::Json => format!("{{\"status\":{status},\"error\":\"{reason}\",\"message\":\"{text}\"}}\n"),
        Audience::Ocs => format!(
            "{{\"ocs\":{{\"meta\":{{\"status\":\"failure\",\"statuscode\":{status},\"message\":\"{text}\"}},\"data\":[]}}}}\n"
        ),
        Audience::OcsXml => format!(
            "<?xml version=\"1.0\"?>\n<ocs>\n <meta>\n  <status>failure</status>\n  <statuscode>{status}</statuscode>\n  \
             <message>{text}</message>\n </meta>\n <data/>\n</ocs>\n"
        ),
    }
}

fn page(status: u16, text: &str, request_id: &str) -> String {
    let reason = reason(status);
    let id = if request_id.is_empty() { String::new() } else { format!("<p class=\"i\">Request {request_id}</p>") };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{status} {reason}</title>\n\
         <style>body{{margin:0;min-height:100vh;display:grid;place-content:center;text-align:center;padding:1.5rem;\
         font:1.05rem/1.6 system-ui,sans-serif;color:#222;background:#f4f6f8}}h1{{font-size:1.4rem;margin:0}}\
         .s{{font-size:3.5rem;font-weight:200;margin:0;color:#667}}.i{{font-size:.8rem;color:#889}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#15181c}}}}</style>\n\
         <main><p class=\"s\">{status}</p><h1>{reason}</h1><p>{text}</p>{id}</main>\n</html>\n"
    )
}

/// SabreDAV's exception class for a status, as sync clients know it.
fn sabre(status: u16) -> &'static str {
    match status {
        400 | 408 | 414 | 417 | 431 => "BadRequest",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        413 | 507 => "InsufficientStorage",
        501 | 505 => "NotImplemented",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalServerError",
    }
}

/// Reason phrase (RFC 9110 §15); empty when unknown, which is allowed.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::reply::{Failure, Own};

    #[test]
    fn each_asker_is_answered_in_its_language() {
        for (method, path, accept, audience) in [
            ("GET", "/", "text/html,application/xhtml+xml", Audience::Person),
            ("GET", "/apps/files/", "*/*", Audience::Person),
            ("PROPFIND", "/", "*/*", Audience::Dav),
            ("PUT", "/remote.php/dav/files/u/a", "*/*", Audience::Dav),
            ("GET", "/remote.php/dav/files/u/a", "text/html", Audience::Person),
            ("GET", "/ocs/v2.php/cloud/user", "text/html", Audience::Ocs),
            ("GET", "/ocs/v2.php/cloud/user?a=b&format=xml", "*/*", Audience::OcsXml),
            ("GET", "/ocs/v1.php/cloud/user?format=json", "application/xml", Audience::Ocs),
            ("GET", "/ocs/v1.php/cloud/user", "application/xml", Audience::OcsXml),
            ("POST", "/index.php/apps/x", "Application/JSON, text/plain", Audience::Json),
            ("GET", "/status.php", "", Audience::Json),
        ] {
            assert_eq!(
                Audience::of(method.as_bytes(), path.as_bytes(), accept.as_bytes()),
                audience,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn structured_bodies_parse() {
        let answer = Failure::Own(Own::NoServer).answer();
        for audience in [Audience::Json, Audience::Ocs] {
            let body = render(&answer, 503, audience, "ab12");
            let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert!(value.to_string().contains(answer.text));
        }
        let xml = render(&answer, 503, Audience::Dav, "");
        assert!(xml.contains("<s:exception>Sabre\\DAV\\Exception\\ServiceUnavailable</s:exception>"));
    }

    #[test]
    fn the_page_for_people_loads_nothing() {
        let page = render(&Failure::Own(Own::NoServer).answer(), 503, Audience::Person, "ab12");
        assert!(page.contains("Request ab12"));
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("));
    }
}
