//! What to do after an attempt at an upstream failed: the table of when sending a request again is safe.
//!
//! RFC 9110 §9.2.2 lets a proxy repeat idempotent requests only. Nextcloud narrows that: a repeated MKCOL, MOVE, DELETE
//! or plain PUT answers differently the second time, and clients make conflict copies of it. A part of a chunked upload
//! overwrites itself, so that one PUT may go twice.

use crate::proto::http1::Method;

/// Attempts of one request that reached for a server: the first and one more. Finding a pooled connection dead does not
/// count, it says nothing about the server.
pub const ATTEMPTS_MAX: u8 = 2;

/// How the attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// TCP or TLS did not come up, or the kernel took no byte of the request.
    NothingSent,
    /// Closed or reset after bytes left and before a response byte came.
    NoResponse,
    /// The upstream stays silent: it may be working on the request.
    Timeout,
    /// A web server answered for a PHP that it could not reach or wait for (502, 503, 504), without saying when to come
    /// back.
    Unavailable,
    /// At least one response byte came.
    ResponseBegun,
}

/// Whether the request can be sent again as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// No body, or all of it is still held.
    Whole,
    /// Body bytes were passed on and let go.
    Spent,
}

/// The failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    pub method: Method,
    /// Raw path, for the one PUT that may be repeated.
    pub path: &'a [u8],
    pub failure: Failure,
    /// The connection came from the pool.
    pub is_reused: bool,
    pub replay: Replay,
    /// Counted attempts so far, this one included unless its connection was a reused one.
    pub attempts: u8,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The pooled connection was stale: same server, new connection, not the server's failure.
    SameFresh,
    /// Another server.
    Other,
    No,
}

pub fn retry(attempt: &Attempt<'_>) -> Retry {
    if attempt.replay == Replay::Spent {
        return Retry::No;
    }
    let again = if attempt.is_reused { Retry::SameFresh } else { Retry::Other };
    let is_spent = !attempt.is_reused && attempt.attempts >= ATTEMPTS_MAX;
    match attempt.failure {
        Failure::Unavailable if may_pass_on(attempt.method, attempt.attempts.saturating_sub(1)) => Retry::Other,
        _ if is_spent => Retry::No,
        Failure::NothingSent => again,
        Failure::NoResponse if is_repeatable(attempt.method, attempt.path) => again,
        Failure::NoResponse | Failure::Timeout | Failure::Unavailable | Failure::ResponseBegun => Retry::No,
    }
}

/// Whether another server may be asked instead of passing on that this one is unavailable, after `attempts` before it.
/// Narrower than [`is_repeatable`]: the request was answered, if by a stand-in.
pub fn may_pass_on(method: Method, attempts: u8) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Propfind) && attempts + 1 < ATTEMPTS_MAX
}

/// Sending it twice leaves the server as sending it once would, and is answered alike.
pub fn is_repeatable(method: Method, path: &[u8]) -> bool {
    match method {
        Method::Get | Method::Head | Method::Options | Method::Propfind | Method::Report | Method::Search => true,
        Method::Put => is_upload_part(path),
        Method::Post
        | Method::Delete
        | Method::Patch
        | Method::Proppatch
        | Method::Mkcol
        | Method::Copy
        | Method::Move
        | Method::Lock
        | Method::Unlock
        | Method::Other => false,
    }
}

/// `/remote.php/dav/uploads/<user>/<upload>/<part>`, the part being a number.
fn is_upload_part(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/remote.php/dav/uploads/") else { return false };
    let mut segments = rest.split(|byte| *byte == b'/');
    let (user, upload, part) = (segments.next(), segments.next(), segments.next());
    let is_name = |segment: Option<&[u8]>| segment.is_some_and(|segment| !segment.is_empty());
    let is_number = part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    is_name(user) && is_name(upload) && is_number && segments.next().is_none()
}

/// Bounds retries to a share of the requests, so that a failing pool does not get its load doubled. One per core and
/// pool.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Thousandths of a retry.
    credit: u32,
}

impl Budget {
    /// Each request earns a tenth of a retry.
    const EARNED: u32 = 100;
    const PRICE: u32 = 1_000;
    /// Enough to carry a burst until the failing server is ejected.
    const CREDIT_MAX: u32 = 100 * Budget::PRICE;

    pub fn new() -> Budget {
        Budget { credit: Budget::CREDIT_MAX }
    }

    pub fn request(&mut self) {
        self.credit = (self.credit + Budget::EARNED).min(Budget::CREDIT_MAX);
    }

    pub fn has_one(&self) -> bool {
        self.credit >= Budget::PRICE
    }

    /// Takes one retry if there is one.
    pub fn spend(&mut self) -> bool {
        match self.credit.checked_sub(Budget::PRICE) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 17] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
        Method::Propfind,
        Method::Proppatch,
        Method::Mkcol,
        Method::Copy,
        Method::Move,
        Method::Lock,
        Method::Unlock,
        Method::Report,
        Method::Search,
        Method::Other,
    ];
    const REPEATABLE: [Method; 6] =
        [Method::Get, Method::Head, Method::Options, Method::Propfind, Method::Report, Method::Search];

    fn attempt(method: Method, failure: Failure, is_reused: bool) -> Attempt<'static> {
        let attempts = if is_reused { 0 } else { 1 };
        Attempt { method, path: b"/remote.php/dav/files/u/a", failure, is_reused, replay: Replay::Whole, attempts }
    }

    #[test]
    fn nothing_sent_is_retried_with_any_method() {
        for method in METHODS {
            assert_eq!(retry(&attempt(method, Failure::NothingSent, false)), Retry::Other);
            assert_eq!(retry(&attempt(method, Failure::NothingSent, true)), Retry::SameFresh);
        }
    }

    #[test]
    fn a_lost_request_is_repeated_only_if_repeating_it_changes_nothing() {
        for method in METHODS {
            let is_safe = REPEATABLE.contains(&method);
            let expected = |again| if is_safe { again } else { Retry::No };
            assert_eq!(retry(&attempt(method, Failure::NoResponse, true)), expected(Retry::SameFresh), "{method:?}");
            assert_eq!(retry(&attempt(method, Failure::NoResponse, false)), expected(Retry::Other), "{method:?}");
        }
    }

    #[test]
    fn silence_and_a_begun_response_are_never_retried() {
        for method in METHODS {
            for failure in [Failure::Timeout, Failure::ResponseBegun] {
                for is_reused in [false, true] {
                    assert_eq!(retry(&attempt(method, failure, is_reused)), Retry::No);
                }
            }
        }
    }

    #[test]
    fn an_unavailable_server_is_passed_over_once_and_for_reads_only() {
        for method in METHODS {
            let is_read = [Method::Get, Method::Head, Method::Propfind].contains(&method);
            let first = Attempt { attempts: 1, ..attempt(method, Failure::Unavailable, false) };
            let expected = if is_read { Retry::Other } else { Retry::No };
            assert_eq!(retry(&first), expected, "{method:?}");
            // What is kept open has nothing to do with it.
            assert_eq!(retry(&Attempt { is_reused: true, ..first }), expected, "{method:?}");
            assert_eq!(retry(&Attempt { attempts: ATTEMPTS_MAX, ..first }), Retry::No, "{method:?}");
        }
    }

    #[test]
    fn only_the_put_of_an_upload_part_is_repeated() {
        let put = |path: &'static str| {
            retry(&Attempt { path: path.as_bytes(), ..attempt(Method::Put, Failure::NoResponse, false) })
        };
        assert_eq!(put("/remote.php/dav/uploads/u/1234/00001"), Retry::Other);
        for path in [
            "/remote.php/dav/uploads/u/1234/.file",
            "/remote.php/dav/uploads/u/1234/1/2",
            "/remote.php/dav/uploads/u/1234/",
            "/remote.php/dav/uploads/u//1",
            "/remote.php/dav/files/u/1234/1",
        ] {
            assert_eq!(put(path), Retry::No, "{path}");
        }
    }

    #[test]
    fn a_spent_body_or_a_second_counted_attempt_ends_it() {
        for failure in [Failure::NothingSent, Failure::NoResponse] {
            let first = attempt(Method::Get, failure, false);
            assert_eq!(retry(&Attempt { replay: Replay::Spent, ..first }), Retry::No);
            assert_eq!(retry(&Attempt { attempts: ATTEMPTS_MAX, ..first }), Retry::No);
        }
    }

    #[test]
    fn the_budget_allows_a_burst_then_a_tenth_of_the_requests() {
        let mut budget = Budget::new();
        while budget.spend() {}
        let retries = (0..1_000)
            .filter(|_| {
                budget.request();
                budget.spend()
            })
            .count();
        assert_eq!(retries, 100);
    }
}
