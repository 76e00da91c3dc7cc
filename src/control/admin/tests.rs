use super::*;

const START: Time = Time(1_000_000_000);

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let name = format!("lyre-admin-{}-{:x}", std::process::id(), fastrand::u64(..));
        Directory(std::env::temp_dir().join(name))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/admin.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Serves until `bytes` got an answer; `Status` is answered with 200.
fn exchange(admin: &mut Admin, path: &Path, bytes: &[u8]) -> (Vec<Request>, String) {
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(bytes).unwrap();
    let mut requests = Vec::new();
    for (ticket, request) in admin.serve(START) {
        requests.push(request);
        admin.answer(START, ticket, &Response::metrics("done\n".into()));
    }
    admin.serve(START);
    let mut answer = String::new();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.read_to_string(&mut answer).unwrap();
    (requests, answer)
}

fn ban(address: &str, length_ms: Option<u64>) -> Request {
    Request::ChangeBan(BanChange::Ban { address: address.parse().unwrap(), length_ms })
}

fn unban(address: &str) -> Request {
    Request::ChangeBan(BanChange::Unban { address: address.parse().unwrap() })
}

#[test]
fn a_ban_that_names_nobody_is_refused() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    for path in [
        "ban",
        "ban?",
        "ban?address=localhost",
        "ban?address=192.0.2.7&for_ms=1h",
        "ban?for_ms=1",
        "ban?x=1",
        "unban",
        "unban?address=192.0.2.7&for_ms=1",
        "ban?address=192.0.2.0/24",
    ] {
        let text = format!("POST /v1/{path} HTTP/1.1\r\nHost: lyre\r\n\r\n");
        let (requests, answer) = exchange(&mut admin, &directory.socket(), text.as_bytes());
        assert!(requests.is_empty() && answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
}

#[test]
fn every_request_reaches_the_owner_and_gets_its_answer() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    for (line, request) in [
        ("GET /v1/status", Request::Status),
        ("GET /metrics?x=1", Request::Metrics),
        ("GET /v1/config", Request::Config),
        ("POST /v1/failover", Request::Failover),
        ("POST /v1/resume", Request::Resume),
        ("POST /v1/reload", Request::Reload),
        ("POST /v1/drain", Request::Drain),
        ("POST /v1/undrain", Request::Undrain),
        ("GET /v1/bans", Request::Bans),
        ("POST /v1/ban?address=192.0.2.7", ban("192.0.2.7", None)),
        ("POST /v1/ban?for_ms=1000&address=2001:db8::7", ban("2001:db8::7", Some(1000))),
        ("POST /v1/unban?address=192.0.2.7", unban("192.0.2.7")),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: lyre\r\nContent-Length: 2\r\n\r\n{{}}");
        let (requests, answer) = exchange(&mut admin, &directory.socket(), text.as_bytes());
        assert_eq!(requests, [request]);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ndone\n"), "{answer}");
    }
}

#[test]
fn other_requests_are_refused() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    let long = format!("GET /v1/status HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
    for (text, status) in [
        ("POST /v1/status HTTP/1.1\r\n\r\n", "405"),
        ("GET /v1/failover HTTP/1.1\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("\0\r\n\r\n", "400"),
        ("POST /v1/drain HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", "413"),
        ("POST /v1/drain HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        ("POST /v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411"),
        (&long, "431"),
    ] {
        let (requests, answer) = exchange(&mut admin, &directory.socket(), text.as_bytes());
        assert_eq!(requests, []);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text}: {answer}");
    }
}

#[test]
fn a_silent_client_is_dropped_and_its_place_is_free_again() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(directory.socket()).unwrap()).collect();
    admin.serve(START);
    assert_eq!(admin.connections.len(), CONNECTIONS_MAX);
    assert_eq!(admin.deadline(), Some(START.plus(IO_TIME)));
    admin.serve(START.plus(IO_TIME));
    assert_eq!(admin.connections.len(), 0);
    drop(silent);
}

#[test]
fn the_socket_is_private_and_goes_at_the_end() {
    let directory = Directory::new();
    let admin = Admin::open(&directory.socket()).unwrap();
    assert_eq!(fs::metadata(directory.socket()).unwrap().mode() & 0o7777, 0o600);
    drop(admin);
    assert!(!directory.socket().exists());
}

#[test]
fn a_stale_socket_is_replaced_a_living_one_is_not() {
    let directory = Directory::new();
    let admin = Admin::open(&directory.socket()).unwrap();
    assert!(matches!(Admin::open(&directory.socket()), Err(AdminError::InUse(_))));
    drop(admin);
    drop(UnixListener::bind(directory.socket()).unwrap());
    assert!(directory.socket().exists());
    Admin::open(&directory.socket()).unwrap();
    fs::write(directory.socket(), "a file").unwrap();
    assert!(matches!(Admin::open(&directory.socket()), Err(AdminError::NotASocket(_))));
}

/// A subscriber whose request has been read, and what its connection is.
fn subscriber(admin: &mut Admin, path: &Path) -> UnixStream {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.write_all(b"GET /v1/events HTTP/1.1\r\n\r\n").unwrap();
    let requests = admin.serve(START);
    assert!(matches!(requests.as_slice(), [(_, Request::Events)]), "{requests:?}");
    admin.subscribe(START, requests[0].0, "first");
    client
}

#[test]
fn subscribers_get_every_line_and_one_that_does_not_read_is_dropped_and_told() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    assert!(!admin.has_subscribers());
    let mut reader = subscriber(&mut admin, &directory.socket());
    let mut sleeper = subscriber(&mut admin, &directory.socket());
    let line = "x".repeat(1000);
    let mut read = Vec::new();
    let mut published = 0;
    let mut dropped = 0;
    while dropped == 0 {
        dropped = admin.publish(START, &line, "last");
        published += 1;
        assert!(published < 10_000, "nobody is ever dropped");
        let mut chunk = [0; 4096];
        let length = reader.read(&mut chunk).unwrap();
        read.extend_from_slice(&chunk[..length]);
    }
    assert_eq!(dropped, 1);
    let mut text = String::new();
    while !text.ends_with("\nlast\n") {
        admin.serve(START);
        let mut chunk = [0; 65536];
        let length = sleeper.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "it ended without being told: ...{}", &text[text.len().saturating_sub(50)..]);
        text += std::str::from_utf8(&chunk[..length]).unwrap();
    }
    assert_eq!(sleeper.read(&mut [0; 10]).unwrap(), 0);
    // The other one missed nothing.
    reader.set_nonblocking(true).unwrap();
    let _ = reader.read_to_end(&mut read);
    let read = String::from_utf8(read).unwrap();
    let (_, lines) = read.split_once("\r\n\r\n").unwrap();
    assert_eq!(lines.lines().count(), published + 1);
    drop(reader);
    admin.serve(START);
    assert!(!admin.has_subscribers());
}

#[test]
fn subscribers_leave_room_for_orders() {
    let directory = Directory::new();
    let mut admin = Admin::open(&directory.socket()).unwrap();
    let _all: Vec<_> = (0..SUBSCRIBERS_MAX).map(|_| subscriber(&mut admin, &directory.socket())).collect();
    let mut late = UnixStream::connect(directory.socket()).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    late.write_all(b"GET /v1/events HTTP/1.1\r\n\r\n").unwrap();
    for (ticket, _) in admin.serve(START) {
        admin.subscribe(START, ticket, "first");
    }
    admin.serve(START);
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (requests, _) = exchange(&mut admin, &directory.socket(), b"GET /v1/status HTTP/1.1\r\n\r\n");
    assert_eq!(requests, [Request::Status]);
}
