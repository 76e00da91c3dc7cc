//! Each kind of tracker: what it watches breaks, the router's health or priority follows, and comes back.

use crate::lab::{Folder, Node, Running, on_a_segment, until};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_link_that_goes_down_is_a_fault_unless_its_delay_forgives_it() {
    on_a_segment("a_link_that_goes_down_is_a_fault_unless_its_delay_forgives_it", |segment| {
        let place = segment.place(11);
        let trackers = "[[track]]\nname = \"strict\"\nkind = \"link\"\ninterface = \"up0\"\n\
                        [[track]]\nname = \"patient\"\nkind = \"link\"\ninterface = \"up0\"\ndown_delay = \"1h\"\nweight = -50\n\
                        [[track]]\nname = \"brief\"\nkind = \"link\"\ninterface = \"up0\"\ndown_delay = \"100ms\"\nweight = -20\n";
        let node = Node::start(&place, Folder::new(), 200, trackers);
        node.becomes("able", 0, "all links are up");
        node.is_soon("active");
        place.ip("link set far0 down");
        node.becomes("unable", -20, "no carrier; the patient one waits");
        assert_eq!(node.router().faults, ["strict: no carrier"]);
        until("the patient one sees it too", || node.tracker("patient").reason == "no carrier");
        assert_eq!(node.tracker("patient").state, "good");
        place.ip("link set far0 up");
        node.becomes("able", 0, "carrier is back");
        place.ip("link delete up0");
        node.becomes("unable", -20, "the interface is gone");
        assert_eq!(node.tracker("strict").reason, "there is no such interface");
        assert_eq!(node.tracker("patient").turns, 0);
    });
}

#[test]
fn a_gateway_that_stops_answering_is_noticed_in_both_families() {
    on_a_segment("a_gateway_that_stops_answering_is_noticed_in_both_families", |segment| {
        let place = segment.place(11);
        let trackers = "[[track]]\nname = \"v4\"\nkind = \"gateway\"\naddress = \"10.88.0.1\"\ninterface = \"eth0\"\n\
                        interval = \"100ms\"\nweight = -30\n\
                        [[track]]\nname = \"v6\"\nkind = \"gateway\"\naddress = \"fd88::1\"\ninterface = \"eth0\"\n\
                        interval = \"100ms\"\n";
        let node = Node::start(&place, Folder::new(), 200, trackers);
        node.becomes("able", 0, "both answer");
        segment.answer(false);
        node.becomes("unable", -30, "neither answers");
        assert_eq!(node.tracker("v4").reason, "10.88.0.1 does not answer on eth0");
        assert_eq!(node.tracker("v6").reason, "fd88::1 does not answer on eth0");
        segment.answer(true);
        node.becomes("able", 0, "both answer again");
    });
}

#[test]
fn a_script_that_fails_hangs_or_is_missing_is_bad_and_leaves_nothing_running() {
    on_a_segment("a_script_that_fails_hangs_or_is_missing_is_bad_and_leaves_nothing_running", |segment| {
        let place = segment.place(11);
        let folder = Folder::new();
        let fails =
            folder.script("fails", &format!("id -u > {}; test ! -e {}", folder.path("uid"), folder.path("bad")));
        let hangs = folder.script("hangs", &format!("sleep 1000 & echo $! >> {}; wait", folder.path("children")));
        let more = format!(
            "[[track]]\nname = \"fails\"\nkind = \"script\"\ncommand = \"{fails}\"\ninterval = \"100ms\"\ntimeout = \"20s\"\n\
             rise = 2\nfall = 2\n\
             [[track]]\nname = \"hangs\"\nkind = \"script\"\ncommand = [\"{hangs}\", \"x\"]\ninterval = \"100ms\"\n\
             timeout = \"300ms\"\nweight = -10\n\
             [[track]]\nname = \"missing\"\nkind = \"script\"\ncommand = \"/no/such/script\"\nweight = -1\n"
        );
        let node = Node::start(&place, folder, 200, &more);
        node.becomes("able", -11, "one hangs, one is missing");
        assert!(node.tracker("missing").reason.starts_with("cannot be started"), "{:?}", node.tracker("missing"));
        assert_eq!(node.tracker("hangs").reason, "did not end within 300ms");
        assert_ne!(node.folder.read("uid").trim(), "0", "scripts must not run as root");
        node.folder.write("bad", "");
        node.becomes("unable", -11, "the first one fails now");
        assert_eq!(node.tracker("fails").reason, "exited with status 1");
        fs::remove_file(node.folder.path("bad")).unwrap();
        node.becomes("able", -11, "it succeeds again");
        let children = node.folder.read("children");
        let first = children.lines().next().unwrap();
        until("the hanging script's child is ended", || !fs::exists(format!("/proc/{first}")).unwrap());
    });
}

#[test]
fn a_process_that_is_killed_is_missed_at_once_and_found_again() {
    on_a_segment("a_process_that_is_killed_is_missed_at_once_and_found_again", |segment| {
        let place = segment.place(11);
        let folder = Folder::new();
        let name = format!("lt-{}", std::process::id());
        fs::copy("/bin/sleep", folder.0.join(&name)).unwrap();
        let program = folder.0.join(&name);
        let start = || Running(Command::new(&program).arg("100000").spawn().unwrap());
        let mut one = start();
        let line = format!("[\"{}\", \"100000\"]", program.display());
        let more = format!(
            "[[track]]\nname = \"name\"\nkind = \"process\"\nprocess = \"{name}\"\n\
             [[track]]\nname = \"line\"\nkind = \"process\"\ncommand_line = {line}\nmin = 2\nweight = 10\n"
        );
        let node = Node::start(&place, folder, 200, &more);
        node.becomes("able", 0, "one runs");
        let two = start();
        node.becomes("able", 10, "two run");
        drop(two);
        node.becomes("able", 0, "one runs");
        one.0.kill().unwrap();
        // Not even reaped: a zombie does nothing any more.
        node.becomes("unable", 0, "none runs");
        assert_eq!(node.router().faults, ["name: 0 of at least 1 run"]);
        let _three = start();
        node.becomes("able", 0, "one runs again");
    });
}

#[test]
fn a_file_is_followed_as_it_is_written_replaced_and_removed() {
    on_a_segment("a_file_is_followed_as_it_is_written_replaced_and_removed", |segment| {
        let place = segment.place(11);
        let more = "[[track]]\nname = \"number\"\nkind = \"file\"\npath = \"number\"\nweight = 2\n\
                    [[track]]\nname = \"maintenance\"\nkind = \"file\"\npath = \"maintenance\"\nmode = \"absent\"\n";
        let node = Node::start(&place, Folder::new(), 200, more);
        node.becomes("able", 0, "there is no file");
        node.folder.write("number", "10\n");
        node.becomes("able", 20, "twice 10");
        until("the priority follows", || node.router().priority == 220);
        node.folder.write("new", "-40");
        fs::rename(node.folder.path("new"), node.folder.path("number")).unwrap();
        node.becomes("able", -80, "twice -40");
        node.folder.write("number", "-127");
        node.becomes("unable", -253, "-254 is a fault");
        node.folder.write("number", "0");
        node.becomes("able", 0, "0");
        node.folder.write("maintenance", "");
        node.becomes("unable", 0, "a file that should not be there");
        fs::remove_file(node.folder.path("maintenance")).unwrap();
        node.becomes("able", 0, "it is gone");
    });
}

#[test]
fn an_http_server_that_answers_500_is_bad() {
    on_a_segment("an_http_server_that_answers_500_is_bad", |segment| {
        let place = segment.place(11);
        let listener = place.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let is_well = Arc::new(AtomicBool::new(true));
        let says = Arc::clone(&is_well);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 1024]);
                let status = if says.load(Ordering::Relaxed) { "200 OK" } else { "500 Oh" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let more = format!(
            "[[track]]\nname = \"page\"\nkind = \"http\"\nurl = \"http://127.0.0.1:{port}/health\"\ninterval = \"100ms\"\n\
             timeout = \"20s\"\n\
             [[track]]\nname = \"nobody\"\nkind = \"http\"\nurl = \"http://127.0.0.1:1/\"\ninterval = \"100ms\"\nweight = -5\n"
        );
        let node = Node::start(&place, Folder::new(), 200, &more);
        node.becomes("able", -5, "one answers, nobody the other");
        assert!(node.tracker("nobody").reason.contains("refused"), "{:?}", node.tracker("nobody"));
        is_well.store(false, Ordering::Relaxed);
        node.becomes("unable", -5, "500");
        assert_eq!(node.tracker("page").reason, "status 500");
        is_well.store(true, Ordering::Relaxed);
        node.becomes("able", -5, "200 again");
    });
}

#[test]
fn an_https_server_is_believed_by_its_certificate_unless_the_check_is_skipped() {
    on_a_segment("an_https_server_is_believed_by_its_certificate_unless_the_check_is_skipped", |segment| {
        let place = segment.place(11);
        let folder = Folder::new();
        let made = rcgen::generate_simple_self_signed(vec!["cloud.example".to_owned()]).unwrap();
        folder.write("own.pem", &made.cert.pem());
        let other = rcgen::generate_simple_self_signed(vec!["cloud.example".to_owned()]).unwrap();
        folder.write("other.pem", &other.cert.pem());
        let listener = place.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                if stream.read(&mut [0; 1024]).is_ok() {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        let track = |name: &str, weight: i16, more: &str| {
            format!(
                "[[track]]\nname = \"{name}\"\nkind = \"http\"\nurl = \"https://127.0.0.1:{port}/health\"\n\
                 interval = \"100ms\"\ntimeout = \"20s\"\nweight = {weight}\n{more}"
            )
        };
        let more = [
            track("own", -1, "host = \"cloud.example\"\nca_file = \"own.pem\"\n"),
            track("name", -2, "host = \"other.example\"\nca_file = \"own.pem\"\n"),
            track("other", -4, "host = \"cloud.example\"\nca_file = \"other.pem\"\n"),
            track("system", -8, "host = \"cloud.example\"\n"),
            track("skipped", -16, "skip_certificate_check = true\n"),
        ];
        let node = Node::start(&place, folder, 200, &more.concat());
        node.becomes("able", -2 - 4 - 8, "the certificate is right, and is not looked at");
        assert_eq!(node.tracker("own").reason, "status 200");
        assert_eq!(node.tracker("skipped").reason, "status 200");
        for (wrong, why) in [("name", "not valid for name"), ("other", "certificate"), ("system", "c")] {
            let reason = node.tracker(wrong).reason;
            assert!(reason.contains(why), "{wrong}: {reason}");
        }
    });
}

#[test]
fn a_pool_without_usable_server_and_the_worker_itself_count_as_configured() {
    on_a_segment("a_pool_without_usable_server_and_the_worker_itself_count_as_configured", |segment| {
        let place = segment.place(11);
        let bind = || place.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let (one, two) = (bind(), bind());
        let servers = [&one, &two].map(|server| format!("\"{}\"", server.local_addr().unwrap()));
        let more = format!(
            "[[pool]]\nname = \"wiki\"\nservers = [{}]\ncheck = {{ kind = \"tcp\", interval = \"100ms\" }}\n\
             [[route]]\npool = \"wiki\"\n[[listener]]\naddress = \"127.0.0.1:8088\"\nkind = \"http\"\n\
             [[track]]\nname = \"both\"\nkind = \"backend_pool\"\npool = \"wiki\"\nmin = 2\nweight = -10\n\
             [[track]]\nname = \"any\"\nkind = \"backend_pool\"\npool = \"wiki\"\nweight = -30\n\
             [[track]]\nname = \"worker\"\nkind = \"proxy\"\nweight = -100\n",
            servers.join(", ")
        );
        let node = Node::start(&place, Folder::new(), 254, &more);
        node.becomes("able", 0, "both servers are up");
        drop(one);
        node.becomes("able", -10, "one is down");
        drop(two);
        // No usable server is what the worker's tracker is about, too; that one is not in this sum.
        node.becomes("able", -40, "both are down");
        until("the worker's weight is advertised", || node.router().priority == 254 - 140);
        assert_eq!(node.tracker("worker").reason, "no web server is usable");
        assert_eq!(node.tracker("any").reason, "0 of 2 servers usable");
    });
}

#[test]
fn a_reload_keeps_what_unchanged_trackers_know_and_new_ones_disturb_nothing() {
    on_a_segment("a_reload_keeps_what_unchanged_trackers_know_and_new_ones_disturb_nothing", |segment| {
        let place = segment.place(11);
        let gone = |weight: &str| {
            format!("[[track]]\nname = \"gone\"\nkind = \"file\"\npath = \"gone\"\nmode = \"exists\"\n{weight}")
        };
        let node = Node::start(&place, Folder::new(), 200, &gone("weight = -10\n"));
        node.becomes("able", -10, "it is not there");
        let before = node.tracker("gone");
        let slow =
            "[[track]]\nname = \"slow\"\nkind = \"script\"\ncommand = [\"/bin/sleep\", \"1000\"]\ninterval = \"1h\"\n";
        node.reload(200, &format!("{}{slow}", gone("weight = -20\n")));
        node.becomes("able", -20, "the same, with another weight");
        until("status follows", || node.tracker("gone").weight == -20);
        let after = node.tracker("gone");
        assert_eq!((after.state, after.turns), (before.state, 0));
        assert!(after.since >= before.since && after.checks >= before.checks, "it began anew");
        assert_eq!((node.tracker("slow").state.as_str(), node.tracker("slow").fault), ("unknown", false));
        node.reload(200, "");
        node.becomes("able", 0, "no trackers are left");
        until("no tracker is shown", || node.status().trackers.is_empty());
    });
}

#[test]
fn until_the_first_result_a_node_takes_nothing() {
    on_a_segment("until_the_first_result_a_node_takes_nothing", |segment| {
        let place = segment.place(11);
        let folder = Folder::new();
        let waits = folder.script("waits", &format!("until test -e {}; do sleep 0.05; done", folder.path("go")));
        let more = format!(
            "[[track]]\nname = \"waits\"\nkind = \"script\"\ncommand = \"{waits}\"\ninterval = \"30s\"\ntimeout = \"1m\"\n"
        );
        let node = Node::start(&place, folder, 200, &more);
        node.becomes("unable", 0, "nothing is known");
        assert_eq!((node.router().state.as_str(), node.tracker("waits").state.as_str()), ("backup", "unknown"));
        node.folder.write("go", "");
        node.is_soon("active");
    });
}
