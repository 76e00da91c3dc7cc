//! Is this the whole page? The clients' reading of one HTTP/1.1 answer.

use crate::demo::backends::PAGE;
use crate::demo::client::ledger::Loss;

/// Largest answer any client of the demo expects.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Incomplete,
    /// The whole page; whether the server keeps the connection open.
    Page {
        keeps_open: bool,
    },
    Wrong(Loss),
}

/// Judges the bytes received so far. Nothing follows a complete answer: requests are not pipelined.
pub(super) fn judge(received: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let head_length = match parsed.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if received.len() <= ANSWER_BYTES_MAX => return Answer::Incomplete,
        Ok(httparse::Status::Partial) | Err(_) => return Answer::Wrong(Loss::Garbled),
    };
    match parsed.code {
        Some(200) => {}
        other => return Answer::Wrong(Loss::Status(other.unwrap_or_default())),
    }
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    // The page was sent with a length, and an intermediary that changes that is wrong.
    let Some(length) = header("content-length").and_then(|value| value.parse::<usize>().ok()) else {
        return Answer::Wrong(Loss::Garbled);
    };
    let body = received.get(head_length..).unwrap_or_default();
    if length != PAGE.len() || body.len() > length {
        Answer::Wrong(Loss::Garbled)
    } else if body.len() < length {
        Answer::Incomplete
    } else if body == PAGE.as_bytes() {
        Answer::Page { keeps_open: !header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) }
    } else {
        Answer::Wrong(Loss::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(extra: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n{PAGE}", PAGE.len()).into_bytes()
    }

    #[test]
    fn every_prefix_of_the_page_is_incomplete_and_the_whole_is_not() {
        let whole = page("");
        for end in 0..whole.len() {
            assert_eq!(judge(&whole[..end]), Answer::Incomplete, "after {end} bytes");
        }
        assert_eq!(judge(&whole), Answer::Page { keeps_open: true });
        assert_eq!(judge(&page("Connection: close\r\n")), Answer::Page { keeps_open: false });
    }

    #[test]
    fn an_error_page_and_a_wrong_page_are_losses() {
        assert_eq!(judge(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), Answer::Wrong(Loss::Status(503)));
        let wrong = String::from_utf8(page("")).unwrap().replace("Files", "Filez");
        assert_eq!(judge(wrong.as_bytes()), Answer::Wrong(Loss::Garbled));
    }
}
