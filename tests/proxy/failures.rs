//! Servers that die, lie, hide or are full.

use crate::edge::on_each_driver;
use crate::origin::{Origin, ok};
use crate::port;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

#[test]
fn a_kept_connection_that_died_is_replaced_without_the_client_noticing() {
    // The second request on a connection is met with silence and a close.
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.send(ok("first"));
        peer.head();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "first");
        }
        assert_eq!(edge.metric("lyre_backend_retries_total"), 2);
        client.send("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n");
        // It may have been carried out: telling is all that is left.
        assert_eq!(client.response("POST").status, 502);
    });
}

#[test]
fn a_kept_connection_the_server_closed_is_not_used_again() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.send(ok("x"));
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response("POST").status, 200);
        edge.wait("close noticed", |edge| edge.metric("lyre_backend_evicted_total") == 1);
        client.send("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response("POST").status, 200);
        assert_eq!(edge.metric("lyre_backend_retries_total"), 0);
    });
}

#[test]
fn bytes_nobody_asked_for_never_answer_the_next_request() {
    let origin = Origin::start(|mut peer| {
        while peer.request().is_some() {
            peer.send([ok("mine"), ok("poison")].concat());
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "mine");
        }
        edge.wait("all were closed", |edge| edge.metric("lyre_backend_unsolicited_total") == 3);
    });
}

#[test]
fn a_server_that_dies_in_the_middle_never_looks_like_an_end() {
    let origin = Origin::start(|mut peer| {
        let request = peer.request().unwrap();
        peer.send(match request.path() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        });
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for path in ["/length", "/chunked"] {
            let response = edge.get(path);
            assert_eq!((response.status, response.is_complete), (200, false), "{path}");
        }
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"upstream\",reason=\"truncated\"}"), 2);
    });
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let living = Origin::answering(|_| ok("alive"));
    // Bound and closed: nobody listens there.
    let dead = port::quiet();
    let config = format!(
        "[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"{dead}\", \"{}\"]\n\
         check = {{ kind = \"tcp\", interval = \"1h\" }}\n",
        living.address
    );
    on_each_driver(&config, |edge| {
        for _ in 0..20 {
            assert_eq!(edge.get("/").text(), "alive");
        }
        // Also what must not run twice: nothing was sent.
        let mut client = edge.connect();
        client.send("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response("POST").text(), "alive");
    });
}

#[test]
fn maintenance_is_not_death() {
    let is_maintenance = Arc::new(AtomicBool::new(true));
    let flag = is_maintenance.clone();
    let status = move || {
        let maintenance = flag.load(Ordering::Relaxed);
        (200, format!(r#"{{"installed":true,"maintenance":{maintenance},"needsDbUpgrade":false}}"#))
    };
    let busy = Origin::with_status(status, |mut peer| {
        while peer.request().is_some() {
            peer.send(
                "HTTP/1.1 503 Service Unavailable\r\nX-Nextcloud-Maintenance-Mode: 1\r\nContent-Length: 2\r\n\r\nMM",
            );
        }
    });
    let config = Origin::config(&[&busy], "check = { kind = \"nextcloud\", interval = \"100ms\" }\n");
    on_each_driver(&config, |edge| {
        is_maintenance.store(true, Ordering::Relaxed);
        edge.wait("maintenance seen", |edge| {
            lyre::serve::report::status(&edge.worker.shared)["pools"][0]["servers"][0]["state"] == "maintenance"
        });
        // All are in maintenance: Nextcloud's own answer says so best, and the node is not degraded.
        let response = edge.get("/");
        assert_eq!((response.status, response.text().as_str()), (503, "MM"));
        assert_eq!(response.field("x-nextcloud-maintenance-mode"), Some("1"));
        assert_eq!(edge.worker.shared.page.summary.usable_servers.load(Ordering::Relaxed), 1);
        is_maintenance.store(false, Ordering::Relaxed);
        edge.wait("up again", |edge| {
            lyre::serve::report::status(&edge.worker.shared)["pools"][0]["servers"][0]["state"] == "up"
        });
    });
}

#[test]
fn a_server_in_maintenance_leaves_the_requests_to_the_others() {
    let maintained =
        || (200, r#"{"installed":true,"maintenance":true,"needsDbUpgrade":false,"version":"32.0.3.2"}"#.to_owned());
    let busy = Origin::with_status(maintained, |mut peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nMM");
        }
    });
    let well = Origin::answering(|_| ok("well"));
    let config = Origin::config(&[&busy, &well], "check = { kind = \"nextcloud\", interval = \"100ms\" }\n");
    on_each_driver(&config, |edge| {
        edge.wait("both are known", |edge| {
            let status = lyre::serve::report::status(&edge.worker.shared);
            let state = |number: usize| status["pools"][0]["servers"][number]["state"].clone();
            (state(0), state(1)) == ("maintenance".into(), "up".into())
        });
        let before = busy.requests().len();
        for method in ["GET", "POST"].repeat(10) {
            let mut client = edge.connect();
            client.send(format!("{method} / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.response(method).text(), "well");
        }
        assert_eq!(busy.requests().len(), before);
    });
}

#[test]
fn when_all_servers_are_down_each_client_is_told_in_its_language() {
    let down = Origin::with_status(|| (500, String::new()), |_| panic!("a request reached a server that is down"));
    on_each_driver(&Origin::config(&[&down], ""), |edge| {
        edge.wait("down", |edge| lyre::serve::report::status(&edge.worker.shared)["pools"][0]["state"] == "down");
        assert_eq!(edge.worker.shared.page.summary.usable_servers.load(Ordering::Relaxed), 0);
        for (request, kind, part) in [
            ("GET / HTTP/1.1\r\nAccept: text/html\r\n", "text/html; charset=utf-8", "<h1>Service Unavailable</h1>"),
            ("PROPFIND /remote.php/dav/ HTTP/1.1\r\n", "application/xml; charset=utf-8", "<s:exception>"),
            ("GET /ocs/v2.php/x HTTP/1.1\r\n", "application/json; charset=utf-8", "\"statuscode\":503"),
            ("GET /x HTTP/1.1\r\nAccept: application/json\r\n", "application/json; charset=utf-8", "\"status\":503"),
        ] {
            let mut client = edge.connect();
            client.send(format!("{request}Host: cloud.test\r\n\r\n"));
            let response = client.response("GET");
            assert_eq!((response.status, response.field("content-type")), (503, Some(kind)));
            assert_eq!(response.field("retry-after"), Some("30"));
            assert!(response.text().contains(part), "{}", response.text());
        }
    });
}

#[test]
fn a_full_server_makes_requests_wait_in_order() {
    let (entered_in, entered) = mpsc::channel::<String>();
    let (go, gate) = mpsc::channel::<()>();
    let (entered_in, gate) = (Mutex::new(entered_in), Mutex::new(gate));
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (inside_in, most_in) = (inside.clone(), most.clone());
    let origin = Origin::start(move |mut peer| {
        while let Some(request) = peer.request() {
            most_in.fetch_max(inside_in.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            entered_in.lock().unwrap().send(request.path().to_owned()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            inside_in.fetch_sub(1, Ordering::SeqCst);
            peer.send(ok(request.path()));
        }
    });
    on_each_driver(&Origin::config(&[&origin], "max_requests_per_server = 1\n"), |edge| {
        let mut clients: Vec<_> = (0..4).map(|_| edge.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
            edge.wait("in line", |edge| {
                edge.metric("lyre_server_outstanding") == 1
                    && edge.metric("lyre_frontend_requests_waiting") == number as u64
            });
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(entered.recv_timeout(Duration::from_secs(20)).unwrap(), format!("/{number}"));
            go.send(()).unwrap();
            assert_eq!(client.response("GET").status, 200);
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn whoever_waits_too_long_for_a_server_is_told_when_to_come_back() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.drain();
    });
    let more = "max_requests_per_server = 1\nqueue_timeout = \"1s\"\n";
    on_each_driver(&Origin::config(&[&origin], more), |edge| {
        let mut first = edge.connect();
        first.send("GET /held HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        edge.wait("first is in", |edge| edge.metric("lyre_server_outstanding") == 1);
        let response = edge.get("/second");
        assert_eq!((response.status, response.field("retry-after")), (503, Some("5")));
    });
}

#[test]
fn a_silent_server_is_a_gateway_timeout_and_a_broken_one_a_bad_gateway() {
    let origin = Origin::start(|mut peer| {
        let request = peer.request().unwrap();
        match request.path() {
            "/silent" => drop(peer.drain()),
            "/close" => {}
            _ => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        }
    });
    on_each_driver(&Origin::config(&[&origin], "response_timeout = \"1s\"\n"), |edge| {
        for (path, status) in [("/silent", 504), ("/close", 502), ("/ambiguous", 502)] {
            assert_eq!(edge.get(path).status, status, "{path}");
        }
    });
}

#[test]
fn a_server_that_stalls_in_the_middle_is_given_up_and_never_looks_like_an_end() {
    let origin = Origin::start(|mut peer| {
        let request = peer.request().unwrap();
        peer.send(match request.path() {
            "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
            // Its rest would pass through the kernel.
            "/long" => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf".to_owned(),
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(),
            _ => return peer.send(ok("well")),
        });
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], "idle_timeout = \"1s\"\n"), |edge| {
        let paths = ["/short", "/long", "/chunked"];
        let mut clients = paths.map(|path| {
            let mut client = edge.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
            client
        });
        // Nobody else waits for them.
        assert_eq!(edge.get("/").text(), "well");
        for (client, path) in clients.iter_mut().zip(paths) {
            let response = client.response("GET");
            assert_eq!(
                (response.status, response.is_complete, response.text().as_str()),
                (200, false, "half"),
                "{path}"
            );
        }
        edge.wait("each is counted", |edge| {
            edge.metric("lyre_http_failed_total{side=\"upstream\",reason=\"stuck\"}") == 3
        });
        edge.wait("its server is free", |edge| edge.metric("lyre_server_outstanding") == 0);
    });
}

#[test]
fn garbage_of_a_server_is_a_bad_gateway_or_a_cut_and_poisons_nobody() {
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.request() {
            match request.path() {
                "/noise" => peer.send([0x16, 3, 1, 0, 0xff, b'\r', b'\n', 0, b'\r', b'\n']),
                "/field" => peer.send("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"),
                "/chunk" => peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
                _ => peer.send(ok(request.path())),
            }
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for round in 0..3 {
            assert_eq!(edge.get("/noise").status, 502);
            assert_eq!(edge.get("/field").status, 502);
            let mut client = edge.connect();
            client.send("GET /chunk HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            // What came with the head may have been seen before it was passed on.
            let head = client.head();
            let is_cut = head.starts_with("HTTP/1.1 200 ") && !client.rest().ends_with(b"0\r\n\r\n");
            assert!(is_cut || head.starts_with("HTTP/1.1 502 "), "{head}");
            let path = format!("/good{round}");
            assert_eq!(edge.get(&path).text(), path);
        }
    });
}

/// The worst moment to close an idle connection: when a request is on its way on it.
#[test]
fn servers_that_close_kept_connections_under_requests_cost_no_client_anything() {
    let origin = Origin::start(|mut peer| {
        for _ in 0..10 {
            let Some(request) = peer.request() else { return };
            peer.send(ok(request.path()));
        }
        peer.request();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        std::thread::scope(|scope| {
            for number in 0..4 {
                let mut client = edge.connect();
                scope.spawn(move || {
                    for round in 0..100 {
                        let path = format!("/{number}/{round}");
                        client.send(format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
                        let response = client.response("GET");
                        assert_eq!((response.status, response.text()), (200, path));
                    }
                });
            }
        });
        assert!(edge.metric("lyre_backend_retries_total") > 0);
        assert_eq!(edge.metric("lyre_http_failed_total"), 0);
    });
}
