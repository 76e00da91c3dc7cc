use super::*;
use crate::proto::http1::{Fields, Limits, Parsed, parse_request, parse_response};

fn start(request: &str, may_keep: bool) -> Exchange {
    let text = format!("{request}\r\n");
    let mut fields = Fields::new();
    match parse_request(text.as_bytes(), &mut fields, &Limits::default()) {
        Ok(Parsed::Done { head, .. }) => Exchange::new(&head, may_keep),
        other => panic!("valid request expected: {request}: {other:?}"),
    }
}

fn answer(exchange: &mut Exchange, response: &str) -> Result<Step, ExchangeFault> {
    let text = format!("{response}\r\n");
    let mut fields = Fields::new();
    match parse_response(text.as_bytes(), &mut fields, &Limits::default()) {
        Ok(Parsed::Done { head, .. }) => exchange.response_head(&head),
        other => panic!("valid response expected: {response}: {other:?}"),
    }
}

fn reply(exchange: &mut Exchange, response: &str) -> Reply {
    match answer(exchange, response) {
        Ok(Step::Final(reply)) => reply,
        other => panic!("final response expected: {other:?}"),
    }
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n";
const GET_10: &str = "GET /x HTTP/1.0\r\nHost: a\r\n";
const PUT: &str = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n";
const UNKNOWN_LENGTH: &str = "HTTP/1.1 200 OK\r\n";

/// (request, willing, response) -> what the client is told, and whether each connection may be used again afterwards.
#[test]
fn who_may_be_used_again() {
    use Persistence::*;
    for (request, may_keep, response, persistence, client, upstream) in [
        (GET, true, OK, Implied, true, true),
        (GET, false, OK, Close, false, true),
        ("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", true, OK, Close, false, true),
        (GET_10, true, OK, Close, false, true),
        ("GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n", true, OK, KeepAlive, true, true),
        ("GET /x HTTP/1.0\r\nConnection: keep-alive, close\r\n", true, OK, Close, false, true),
        (GET, true, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n", Implied, true, false),
        (GET, true, UNKNOWN_LENGTH, Implied, true, false),
        ("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n", true, UNKNOWN_LENGTH, Close, false, false),
    ] {
        let mut exchange = start(request, may_keep);
        assert_eq!(reply(&mut exchange, response).persistence, persistence, "{request} {response}");
        assert!(!exchange.may_reuse_client() && !exchange.may_reuse_upstream(), "not before the body ended");
        exchange.response_done();
        let found = (exchange.may_reuse_client(), exchange.may_reuse_upstream());
        assert_eq!(found, (client, upstream), "{request} {response}");
    }
}

#[test]
fn a_body_of_unknown_length_is_chunked_or_ends_with_the_connection() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    for response in [chunked, UNKNOWN_LENGTH] {
        assert_eq!(reply(&mut start(GET, true), response).sent, Framing::Chunked);
        assert_eq!(reply(&mut start(GET_10, true), response).sent, Framing::UntilClose);
    }
    assert_eq!(reply(&mut start(GET_10, true), OK).sent, Framing::Length(3));
}

#[test]
fn an_upload_that_outlives_its_response_spoils_the_upstream() {
    let mut late = start(PUT, true);
    reply(&mut late, OK);
    late.response_done();
    late.request_done();
    assert!(!late.may_reuse_upstream());
    assert!(late.may_reuse_client());

    let mut timely = start(PUT, true);
    reply(&mut timely, OK);
    timely.request_done();
    timely.response_done();
    assert!(timely.may_reuse_upstream() && timely.may_reuse_client());
}

#[test]
fn a_refused_upload_closes_the_client_unless_it_was_complete() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n";
    let mut early = start(PUT, true);
    assert_eq!(reply(&mut early, refusal).persistence, Persistence::Close);
    let mut complete = start(PUT, true);
    complete.request_done();
    assert_eq!(reply(&mut complete, refusal).persistence, Persistence::Implied);
}

#[test]
fn a_hundred_is_relayed_to_the_client_that_waits_for_it_once() {
    let mut exchange = start(&format!("{PUT}Expect: 100-continue\r\n"), true);
    assert!(exchange.awaits_continue());
    let interim = "HTTP/1.1 100 Continue\r\n";
    assert_eq!(answer(&mut exchange, interim), Ok(Step::Interim { relay: true }));
    assert!(!exchange.awaits_continue());
    assert_eq!(answer(&mut exchange, interim), Ok(Step::Interim { relay: false }));
    exchange.request_done();
    assert_eq!(reply(&mut exchange, OK).persistence, Persistence::Implied);
}

#[test]
fn a_final_answer_instead_of_a_hundred_closes_both() {
    let mut exchange = start(&format!("{PUT}Expect: 100-continue\r\n"), true);
    assert_eq!(reply(&mut exchange, OK).persistence, Persistence::Close);
    exchange.response_done();
    assert!(!exchange.may_reuse_client() && !exchange.may_reuse_upstream());
}

#[test]
fn a_client_that_sends_without_waiting_needs_no_hundred() {
    let mut exchange = start(&format!("{PUT}Expect: 100-continue\r\n"), true);
    exchange.continued();
    assert_eq!(answer(&mut exchange, "HTTP/1.1 100 Continue\r\n"), Ok(Step::Interim { relay: false }));
}

#[test]
fn interim_responses_never_reach_http10_and_are_counted() {
    let hints = "HTTP/1.1 103 Early Hints\r\n";
    assert_eq!(answer(&mut start(GET_10, true), hints), Ok(Step::Interim { relay: false }));
    let mut exchange = start(GET, true);
    for _ in 0..INTERIM_RESPONSES_MAX {
        assert_eq!(answer(&mut exchange, hints), Ok(Step::Interim { relay: true }));
    }
    assert_eq!(answer(&mut exchange, hints), Err(ExchangeFault::TooManyInterim));
    exchange.response_done();
    assert!(!exchange.may_reuse_client() && !exchange.may_reuse_upstream());
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

#[test]
fn only_a_matching_101_opens_a_tunnel() {
    assert_eq!(answer(&mut start(UPGRADE, true), SWITCHING), Ok(Step::Tunnel));
    assert_eq!(answer(&mut start(GET, true), SWITCHING), Err(ExchangeFault::UnexpectedUpgrade));
    let other = SWITCHING.replace("websocket", "h2c");
    assert_eq!(answer(&mut start(UPGRADE, true), &other), Err(ExchangeFault::UnexpectedUpgrade));
}

#[test]
fn a_refused_upgrade_is_ordinary_http_and_the_client_closes() {
    let mut exchange = start(UPGRADE, true);
    let reply = reply(&mut exchange, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n");
    assert_eq!((reply.sent, reply.persistence), (Framing::Length(0), Persistence::Close));
    exchange.response_done();
    assert!(!exchange.may_reuse_client());
    assert!(exchange.may_reuse_upstream());
}

#[test]
fn failure_excess_bytes_and_a_second_response_end_the_upstream() {
    let finished = || {
        let mut exchange = start(GET, true);
        reply(&mut exchange, OK);
        exchange
    };
    let mut excess = finished();
    excess.spoil_upstream();
    excess.response_done();
    assert!(excess.may_reuse_client() && !excess.may_reuse_upstream());
    let mut failed = finished();
    failed.fail();
    failed.response_done();
    assert!(!failed.may_reuse_client() && !failed.may_reuse_upstream());
    let mut twice = finished();
    twice.response_done();
    assert_eq!(answer(&mut twice, OK), Err(ExchangeFault::Unsolicited));
}

#[test]
fn a_stream_gets_bodies_without_framing_and_trailers_without_asking() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let request = GET;
    let to_stream = reply(&mut start(request, true).over_stream(), chunked);
    assert_eq!((to_stream.sent, to_stream.takes_trailers), (Framing::UntilClose, true));
    let to_connection = reply(&mut start(request, true), chunked);
    assert_eq!((to_connection.sent, to_connection.takes_trailers), (Framing::Chunked, false));
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n";
    assert!(reply(&mut start(asked, true), chunked).takes_trailers);
    let named = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-sum\r\nX-Sum: 1\r\n";
    assert!(!reply(&mut start(asked, true), named).takes_trailers);
}
