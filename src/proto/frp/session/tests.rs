use super::*;
use crate::proto::frp::identity::Grant;
use crate::proto::frp::message::{CloseProxy, Hidden, NewProxy, NewProxyResp, NewVisitorConn, NewWorkConn, Ping};

const START: Duration = Duration::from_secs(1_000);
const SECOND: Duration = Duration::from_secs(1);
/// By then a proxy that came up at the start takes work connections.
const LATER: Duration = Duration::from_millis(1_000_050);

/// A node with any number of sessions, each of which speaks from an address of its own.
struct Node {
    registry: Registry,
    sessions: Vec<Session>,
}

fn source(number: usize) -> Source {
    Source { address: [192, 0, 2, number as u8].into(), certificate: None }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn proxy(name: &str, port: i64) -> NewProxy {
    NewProxy { proxy_name: name.to_owned(), proxy_type: "tcp".to_owned(), remote_port: port, ..NewProxy::default() }
}

fn answer(name: &str, outcome: Result<u16, &str>) -> Action {
    let (remote_addr, error) = match outcome {
        Ok(port) => (format!(":{port}"), String::new()),
        Err(error) => (String::new(), error.to_owned()),
    };
    Action::Send(Message::NewProxyResp(NewProxyResp { proxy_name: name.to_owned(), remote_addr, error }))
}

fn up(name: &str, remote_port: u16) -> Action {
    Action::Up { proxy_name: name.to_owned(), remote_port }
}

fn down(name: &str, remote_port: u16) -> Action {
    Action::Down { proxy_name: name.to_owned(), remote_port }
}

fn open(waiter: u64, port: u16) -> Input {
    let (from, to) = (address("203.0.113.7:40000"), address("192.0.2.10:443"));
    Input::Open { waiter: WaiterId(waiter), port, from, to }
}

const ASK: Action = Action::Send(Message::ReqWorkConn);

impl Node {
    fn new() -> Node {
        Node { registry: Registry::default(), sessions: Vec::new() }
    }

    /// A client logs in; what its session does at once.
    fn login_as(&mut self, identity: Identity, pool_count: i64, terms: Terms) -> Vec<Action> {
        let from = source(self.sessions.len() + 1);
        let fresh = [self.sessions.len() as u8; 16];
        let admission = self.registry.admit("", from.clone(), fresh).unwrap();
        let login = Login { pool_count, ..Login::default() };
        let mut actions = Vec::new();
        self.sessions.push(Session::start(START, &login, (identity, from, admission), terms, &mut actions));
        actions
    }

    fn login(&mut self, pool_count: i64) -> Vec<Action> {
        self.login_as(Identity::Shared, pool_count, Terms { is_muxed: true, ports_max: 1 })
    }

    fn act(&mut self, session: usize, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.sessions[session].handle(now, input, &mut self.registry, &mut actions);
        actions
    }

    fn say(&mut self, session: usize, message: Message) -> Vec<Action> {
        self.act(session, START, Input::Message(message))
    }

    fn register(&mut self, session: usize, proxy: NewProxy) -> Vec<Action> {
        self.say(session, Message::NewProxy(Box::new(proxy)))
    }
}

/// One session with "app" on 23000.
fn serving(pool_count: i64) -> Node {
    let mut node = Node::new();
    node.login(pool_count);
    node.register(0, proxy("app", 23_000));
    node
}

#[test]
fn a_login_is_answered_with_its_run_id_and_asks_for_the_pool() {
    for (pool_count, asked) in [(-1, 0), (0, 0), (1, 1), (5, 5), (6, 5), (i64::MAX, 5)] {
        let mut node = Node::new();
        assert_eq!(node.login(pool_count), vec![ASK; asked], "{pool_count}");
        let LoginResp { version, run_id, error } = node.sessions[0].answer();
        assert_eq!((version.as_str(), run_id.0.clone(), error.as_str()), ("0.61.1", "00".repeat(16), ""));
    }
}

#[test]
fn work_connections_belong_to_the_session_whose_run_id_they_show() {
    let mut node = Node::new();
    node.login(0);
    assert!(node.sessions[0].is_mine(&"00".repeat(16)));
    for other in ["", "0", &"01".repeat(16)] {
        assert!(!node.sessions[0].is_mine(other));
    }
}

#[test]
fn a_proxy_is_answered_and_up_and_down_again() {
    let mut node = Node::new();
    node.login(0);
    assert_eq!(node.register(0, proxy("app", 23_000)), [answer("app", Ok(23_000)), up("app", 23_000)]);
    assert_eq!(node.sessions[0].proxies().collect::<Vec<_>>(), [("app", 23_000)]);
    assert_eq!(node.registry.holder(23_000), Some(node.sessions[0].id()));
    // Sent again because our answer was late: the same answer, nothing else.
    assert_eq!(node.register(0, proxy("app", 23_000)), [answer("app", Ok(23_000))]);
    let close = |name: &str| Message::CloseProxy(CloseProxy { proxy_name: name.to_owned() });
    assert_eq!(node.say(0, close("other")), []);
    assert_eq!(node.say(0, close("app")), [down("app", 23_000)]);
    assert_eq!(node.registry.holder(23_000), None);
    assert_eq!(node.register(0, proxy("app", 23_001)), [answer("app", Ok(23_001)), up("app", 23_001)]);
}

#[test]
fn proxies_that_cannot_be_are_refused_in_the_words_of_frps() {
    let typed = |kind: &str| NewProxy { proxy_type: kind.to_owned(), ..proxy("app", 23_000) };
    let long = "x".repeat(129);
    let name_rule = "a proxy name has 1 to 128 printable bytes";
    let cases = [
        (typed("udp"), "unknown proxy type: udp"),
        (typed("http"), "unknown proxy type: http"),
        (typed("a\nlong unprintable type"), r"unknown proxy type: a\nlong unprintab"),
        (proxy("app", 0), "no available port"),
        (proxy("app", 22), "port not allowed"),
        (proxy("app", -23_000), "port not allowed"),
        (proxy("", 23_000), name_rule),
        (proxy("a\u{7}", 23_000), name_rule),
        (proxy(&long, 23_000), name_rule),
        (NewProxy { group: "g".to_owned(), ..proxy("app", 23_000) }, "groups are not served"),
    ];
    let mut node = Node::new();
    node.login(0);
    for (proxy, error) in cases {
        let name = proxy.proxy_name.clone();
        assert_eq!(node.register(0, proxy), [answer(&name, Err(error))]);
    }
    assert_eq!(node.register(0, typed("")), [answer("app", Ok(23_000)), up("app", 23_000)], "empty means tcp");
    let second = node.register(0, proxy("second", 23_001));
    assert_eq!(second, [answer("second", Err("exceed the max_ports_per_client"))]);
}

#[test]
fn a_token_of_an_app_gets_that_app_s_name_and_port_only() {
    let mut node = Node::new();
    let grant = Grant { proxy_name: "app".to_owned(), remote_port: 23_005 };
    node.login_as(Identity::App(grant), 0, Terms { is_muxed: true, ports_max: 1 });
    let refused = "port not allowed: this token is for proxy [app] on port 23005";
    assert_eq!(node.register(0, proxy("app", 24_000)), [answer("app", Err(refused))]);
    assert_eq!(node.register(0, proxy("other", 23_005)), [answer("other", Err(refused))]);
    assert_eq!(node.register(0, proxy("app", 23_005)), [answer("app", Ok(23_005)), up("app", 23_005)]);
}

#[test]
fn a_conflict_is_asked_about_and_a_holder_that_is_there_stays() {
    let mut node = serving(0);
    node.login(0);
    let holder = node.sessions[0].id();
    for (name, port, error) in [("app", 23_001, "proxy [app] already exists"), ("two", 23_000, "port already used")] {
        assert_eq!(node.register(1, proxy(name, port)), [Action::Probe(holder)]);
        assert_eq!(node.register(1, proxy(name, port)), [], "asked already");
        assert_eq!(node.act(1, LATER, Input::Probed(holder)), [answer(name, Err(error))]);
        assert_eq!(node.act(1, LATER, Input::Probed(holder)), []);
    }
    assert_eq!(node.registry.holder(23_000), Some(holder));
}

#[test]
fn a_holder_that_is_gone_makes_room() {
    let mut node = serving(0);
    node.login(0);
    let holder = node.sessions[0].id();
    assert_eq!(node.register(1, proxy("app", 23_000)), [Action::Probe(holder)]);
    assert_eq!(node.act(0, LATER, Input::Lost), [down("app", 23_000)]);
    let now_up = [answer("app", Ok(23_000)), up("app", 23_000)];
    assert_eq!(node.act(1, LATER, Input::Probed(holder)), now_up);
}

#[test]
fn a_client_in_conflict_with_itself_is_told_at_once() {
    let mut node = Node::new();
    node.login_as(Identity::Shared, 0, Terms { is_muxed: true, ports_max: 2 });
    node.register(0, proxy("app", 23_000));
    assert_eq!(node.register(0, proxy("app", 23_001)), [answer("app", Err("proxy [app] already exists"))]);
    assert_eq!(node.register(0, proxy("two", 23_000)), [answer("two", Err("port already used"))]);
}

#[test]
fn somebody_who_wants_a_tunnel_gets_an_idle_connection_and_another_is_asked_for() {
    let mut node = serving(1);
    assert_eq!(node.act(0, LATER, Input::Work(WorkId(1))), []);
    let start = StartWorkConn {
        proxy_name: "app".to_owned(),
        src_addr: "203.0.113.7".to_owned(),
        dst_addr: "192.0.2.10".to_owned(),
        src_port: 40_000,
        dst_port: 443,
        error: String::new(),
    };
    let wrapping = Wrapping::default();
    let assign = Action::Assign { waiter: WaiterId(7), work: WorkId(1), start, wrapping };
    assert_eq!(node.act(0, LATER, open(7, 23_000)), [assign, ASK]);
}

#[test]
fn without_an_idle_connection_one_is_asked_for_and_waited_for() {
    let mut node = serving(0);
    // The one that is needed, and one to keep: the client's own count was too low.
    assert_eq!(node.act(0, LATER, open(7, 23_000)), [ASK, ASK]);
    let actions = node.act(0, LATER + 9 * SECOND, Input::Work(WorkId(1)));
    assert!(matches!(actions[..], [Action::Assign { waiter: WaiterId(7), work: WorkId(1), .. }]), "{actions:?}");
}

#[test]
fn wrapping_is_what_the_proxy_asked_for() {
    let mut node = Node::new();
    node.login(0);
    let wish = NewProxy { use_encryption: true, use_compression: true, ..proxy("app", 23_000) };
    node.register(0, wish);
    node.act(0, LATER, Input::Work(WorkId(1)));
    let actions = node.act(0, LATER, open(7, 23_000));
    let wanted = Wrapping { is_encrypted: true, is_compressed: true };
    assert!(matches!(&actions[0], Action::Assign { wrapping, .. } if *wrapping == wanted), "{actions:?}");
}

#[test]
fn nobody_is_served_before_the_client_can_have_read_that_its_proxy_is_up() {
    let mut node = serving(0);
    node.act(0, START, Input::Work(WorkId(1)));
    let actions = node.act(0, START, open(7, 23_000));
    assert!(!actions.iter().any(|action| matches!(action, Action::Assign { .. })));
    assert_eq!(node.sessions[0].deadline(), Some(LATER));
    let actions = node.act(0, LATER, Input::Tick);
    assert!(matches!(actions[..], [Action::Assign { .. }, ..]), "{actions:?}");
}

#[test]
fn who_waits_in_vain_is_told_after_ten_seconds() {
    let mut node = serving(0);
    node.act(0, LATER, open(7, 23_000));
    node.act(0, LATER, open(8, 23_000));
    node.act(0, LATER, Input::GiveUp(WaiterId(8)));
    assert_eq!(node.sessions[0].deadline(), Some(LATER + 10 * SECOND));
    let actions = node.act(0, LATER + 10 * SECOND, Input::Tick);
    assert_eq!(actions[0], Action::Fail { waiter: WaiterId(7), failure: Failure::Timeout });
    let failed = actions.iter().filter(|action| matches!(action, Action::Fail { .. })).count();
    assert_eq!(failed, 1, "{actions:?}");
}

#[test]
fn a_port_nobody_serves_here_fails_at_once() {
    let mut node = serving(1);
    let failed = Action::Fail { waiter: WaiterId(7), failure: Failure::NoProxy };
    assert_eq!(node.act(0, LATER, open(7, 23_001)), [failed]);
}

#[test]
fn the_line_of_those_who_wait_is_bounded() {
    let mut node = serving(0);
    let mut failed = 0;
    let mut asked = 0;
    for waiter in 0..300 {
        for action in node.act(0, LATER, open(waiter, 23_000)) {
            failed += usize::from(matches!(action, Action::Fail { failure: Failure::Busy, .. }));
            asked += usize::from(action == ASK);
        }
    }
    assert_eq!((failed, asked), (300 - 256, 256 + 32));
}

#[test]
fn connections_nobody_asked_for_are_kept_up_to_a_bound() {
    let mut node = serving(2);
    let discarded = |actions: Vec<Action>| usize::from(matches!(actions[..], [Action::Discard(_)]));
    let count: usize = (0..50).map(|work| discarded(node.act(0, LATER, Input::Work(WorkId(work))))).sum();
    assert_eq!((node.sessions[0].idle(), count), (12, 38));
}

#[test]
fn an_idle_connection_that_ended_is_not_given_to_anybody() {
    let mut node = serving(1);
    node.act(0, LATER, Input::Work(WorkId(1)));
    assert_eq!(node.act(0, LATER, Input::WorkLost(WorkId(1))), [ASK]);
    let actions = node.act(0, LATER, open(7, 23_000));
    assert!(!actions.iter().any(|action| matches!(action, Action::Assign { .. })), "{actions:?}");
}

#[test]
fn what_was_asked_for_and_never_came_is_asked_for_again() {
    let mut node = serving(1);
    assert_eq!(node.sessions[0].deadline(), Some(START + 10 * SECOND));
    assert_eq!(node.act(0, START + 10 * SECOND, Input::Tick), [ASK]);
}

#[test]
fn a_busy_time_makes_the_pool_larger_and_a_quiet_one_smaller() {
    let mut node = serving(1);
    for waiter in 0..10 {
        node.act(0, LATER, open(waiter, 23_000));
    }
    for work in 0..40 {
        node.act(0, LATER, Input::Work(WorkId(work)));
    }
    assert_eq!(node.sessions[0].idle(), 11, "those kept from now on");
    let mut now = LATER;
    while let Some(deadline) = node.sessions[0].deadline() {
        assert!(deadline > now && deadline < LATER + 300 * SECOND, "{deadline:?}");
        now = deadline;
        assert_eq!(node.act(0, now, Input::Tick), []);
    }
    // Quiet long enough: one that is used is not replaced while enough are there.
    assert!(matches!(node.act(0, now, open(99, 23_000))[..], [Action::Assign { .. }]));
}

#[test]
fn a_proxy_that_closes_sends_those_who_wait_for_it_away() {
    let mut node = serving(0);
    node.act(0, LATER, open(7, 23_000));
    let close = Message::CloseProxy(CloseProxy { proxy_name: "app".to_owned() });
    let failed = Action::Fail { waiter: WaiterId(7), failure: Failure::Lost };
    assert_eq!(node.act(0, LATER, Input::Message(close)), [failed, down("app", 23_000)]);
}

#[test]
fn a_session_that_ends_gives_everything_back_and_does_nothing_more() {
    let mut node = serving(2);
    let id = node.sessions[0].id();
    for work in 0..2 {
        node.act(0, START, Input::Work(WorkId(work)));
    }
    node.act(0, START, open(7, 23_000));
    let lost = |waiter| Action::Fail { waiter: WaiterId(waiter), failure: Failure::Lost };
    let expected = [down("app", 23_000), lost(7), Action::Discard(WorkId(0)), Action::Discard(WorkId(1))];
    assert_eq!(node.act(0, START, Input::Lost), expected);
    assert_eq!((node.registry.holder(23_000), node.registry.sessions()), (None, 0));
    assert_eq!(node.sessions[0].deadline(), None);
    assert_eq!(node.act(0, LATER, Input::Lost), []);
    assert_eq!(node.act(0, LATER, Input::Tick), []);
    assert_eq!(node.act(0, LATER, Input::Probed(id)), []);
    assert_eq!(node.act(0, LATER, Input::Work(WorkId(9))), [Action::Discard(WorkId(9))]);
    assert_eq!(node.act(0, LATER, open(8, 23_000)), [lost(8)]);
    assert_eq!(node.register(0, proxy("app", 23_000)), []);
}

#[test]
fn heartbeats_are_answered_and_wanted_only_without_the_multiplexer() {
    let mut node = Node::new();
    node.login_as(Identity::Shared, 0, Terms { is_muxed: false, ports_max: 1 });
    node.login(0);
    assert_eq!(node.say(0, Message::Ping(Ping::default())), [Action::Send(Message::Pong(Pong::default()))]);
    assert_eq!(node.sessions[0].deadline(), Some(START + 90 * SECOND));
    assert_eq!(node.act(0, START + 89 * SECOND, Input::Tick), []);
    node.act(0, START + 89 * SECOND, Input::Message(Message::Ping(Ping::default())));
    assert_eq!(node.act(0, START + 178 * SECOND, Input::Tick), []);
    assert_eq!(node.act(0, START + 179 * SECOND, Input::Tick), [Action::Close(CloseReason::Silent)]);
    assert_eq!(node.sessions[1].deadline(), None);
    assert_eq!(node.act(1, START + 1_000 * SECOND, Input::Tick), []);
}

#[test]
fn messages_that_have_no_place_end_the_session_and_those_not_served_do_not() {
    let visitor = NewVisitorConn { proxy_name: "v".to_owned(), ..NewVisitorConn::default() };
    let mut node = serving(0);
    let actions = node.say(0, Message::NewVisitorConn(visitor));
    assert!(matches!(&actions[..], [Action::Send(Message::NewVisitorConnResp(answer))] if !answer.error.is_empty()));
    assert_eq!(node.say(0, Message::Other(crate::proto::frp::message::Kind::NatHoleClient)), []);
    let again = Message::Login(Box::new(Login { run_id: Hidden("x".to_owned()), ..Login::default() }));
    for message in [again, Message::NewWorkConn(NewWorkConn::default()), Message::ReqWorkConn] {
        let mut node = serving(0);
        let expected = [down("app", 23_000), Action::Close(CloseReason::Unexpected)];
        assert_eq!(node.say(0, message), expected);
    }
}

#[test]
fn a_flood_of_messages_ends_the_session() {
    let mut node = serving(0);
    let mut last = Vec::new();
    for _ in 0..MESSAGES_MAX {
        last = node.say(0, Message::Ping(Ping::default()));
    }
    assert_eq!(last, [down("app", 23_000), Action::Close(CloseReason::Flood)]);
}

/// Sessions that come, claim, serve and go at random, against plain bookkeeping: a port has one holder, who wants a
/// tunnel gets one answer, and in the end nothing is left behind.
#[test]
fn whatever_sessions_do_the_books_balance() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut node = Node::new();
        let (mut now, mut next) = (START, 0);
        let mut open_waiters = std::collections::BTreeMap::new();
        for _ in 0..4 {
            node.login_as(Identity::Shared, rng.i64(-1..4), Terms { is_muxed: rng.bool(), ports_max: 2 });
        }
        let mut probes = Vec::new();
        for _ in 0..300 {
            now += Duration::from_millis(rng.u64(..2_000));
            next += 1;
            let session = rng.usize(..4);
            let port = 23_000 + rng.u16(..3);
            let name = format!("p{}", rng.u8(..3));
            let input = match rng.u8(..20) {
                0..=4 => Input::Message(Message::NewProxy(Box::new(proxy(&name, port.into())))),
                5 => Input::Message(Message::CloseProxy(CloseProxy { proxy_name: name })),
                6..=9 => Input::Work(WorkId(next)),
                10..=14 => {
                    open_waiters.insert(WaiterId(next), session);
                    open(next, port)
                }
                15 => probes.pop().map_or(Input::Tick, |(_, holder)| Input::Probed(holder)),
                16 => Input::Message(Message::Ping(Ping::default())),
                17 if rng.u8(..) < 10 => Input::Lost,
                _ => Input::Tick,
            };
            for action in node.act(session, now, input) {
                match action {
                    Action::Assign { waiter, .. } | Action::Fail { waiter, .. } => {
                        assert_eq!(open_waiters.remove(&waiter), Some(session), "seed {seed}");
                    }
                    Action::Probe(holder) => {
                        assert_ne!(holder, node.sessions[session].id());
                        probes.push((session, holder));
                    }
                    _ => {}
                }
            }
            for port in 23_000..23_003 {
                let serving = node.sessions.iter().filter(|session| session.proxies().any(|(_, held)| held == port));
                let ids: Vec<SessionId> = serving.map(Session::id).collect();
                assert_eq!(ids, node.registry.holder(port).into_iter().collect::<Vec<_>>(), "seed {seed}");
            }
        }
        for session in 0..4 {
            for action in node.act(session, now, Input::Lost) {
                if let Action::Fail { waiter, .. } = action {
                    open_waiters.remove(&waiter);
                }
            }
        }
        assert!(open_waiters.is_empty() && node.registry.sessions() == 0, "seed {seed}");
    }
}
