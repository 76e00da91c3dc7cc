//! What `[nextcloud]` alone brings: reserved paths, redirects, protection of responses, and the services beside it.

use crate::edge::{Edge, on_each_driver};
use crate::origin::{Origin, ok};

fn request(edge: &Edge, head: &str) -> crate::edge::Response {
    let mut client = edge.connect();
    client.send(format!("{head}\r\nHost: cloud.test\r\n\r\n"));
    client.response(head.split(' ').next().unwrap())
}

fn echo() -> Origin {
    Origin::answering(|request| ok(request.line()))
}

#[test]
fn targets_reach_the_web_server_byte_for_byte() {
    let origin = echo();
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for target in [
            "/remote.php/dav/files/u/a%2Fb%23%25%20c",
            "//remote.php/./dav/../dav/",
            "/remote.php/dav/files/u/a;b/%5C%3B?x=%00",
            "/cool/https%3A%2F%2Fcloud%2Fx/ws?a=b%2Bc",
            "/%70ush/ws",
            "/index.php//apps/%2e%2e/",
        ] {
            assert_eq!(request(edge, &format!("GET {target} HTTP/1.1")).text(), format!("GET {target} HTTP/1.1"));
        }
    });
}

#[test]
fn fields_of_dav_and_cookies_pass_untouched() {
    let origin = Origin::answering(|request| {
        let body = request.head.clone();
        let cookies = "Set-Cookie: __Host-nc_sameSiteCookielax=true; path=/; httponly; secure\r\nSet-Cookie: a=b\r\n";
        format!(
            "HTTP/1.1 201 \r\n{cookies}OC-ETag: \"x\"\r\nLock-Token: <t>\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let fields = [
            "Destination: https://cloud.test/remote.php/dav/files/u/%C3%A4%23",
            "If: (<opaquelocktoken:1-2> [\"etag\"]) (Not <DAV:no-lock>)",
            "Lock-Token: <opaquelocktoken:1-2>",
            "Depth: infinity",
            "Overwrite: F",
            "Timeout: Second-3600",
            "OC-Total-Length: 5",
            "X-OC-Mtime: 1",
            "requesttoken: a+/=:b",
            "OCS-APIRequest: true",
            "token: 1234",
            "AUTHORIZATION-APP-API: dXNlcjpzZWNyZXQ=",
            "Cookie: oc_sessionPassphrase=%2F; nc_token=\"x y\"",
        ];
        let response = request(edge, &format!("MOVE /a HTTP/1.1\r\n{}", fields.join("\r\n")));
        for field in fields {
            assert!(response.text().contains(&format!("\r\n{field}\r\n")), "{field}: {}", response.text());
        }
        assert_eq!(response.head.matches("Set-Cookie: ").count(), 2);
        assert!(response.head.contains("Set-Cookie: __Host-nc_sameSiteCookielax=true; path=/; httponly; secure\r\n"));
        assert_eq!((response.field("oc-etag"), response.field("lock-token")), (Some("\"x\""), Some("<t>")));
    });
}

#[test]
fn well_known_places_are_redirected_relative_and_with_any_method() {
    let origin = echo();
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for (head, location) in [
            ("PROPFIND /.well-known/caldav HTTP/1.1", "/remote.php/dav/"),
            ("GET /.well-known/carddav/ HTTP/1.1", "/remote.php/dav/"),
            (
                "GET /.well-known/webfinger?resource=acct:a@b HTTP/1.1",
                "/index.php/.well-known/webfinger?resource=acct:a@b",
            ),
            ("HEAD /.well-known/nodeinfo HTTP/1.1", "/index.php/.well-known/nodeinfo"),
        ] {
            let response = request(edge, head);
            assert_eq!((response.status, response.field("location")), (301, Some(location)), "{head}");
        }
        assert_eq!(request(edge, "GET /.well-known/acme-challenge/x HTTP/1.1").status, 200);
        // A body that comes with it does not become the next request.
        let mut client = edge.connect();
        client.send("PROPFIND /.well-known/caldav HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 3\r\n\r\nGET");
        assert_eq!(client.response("PROPFIND").status, 301);
        assert!(client.rest().is_empty());
    });
}

#[test]
fn the_installation_is_hidden_and_names_like_it_are_not() {
    let origin = echo();
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for path in ["/data/.ncdata", "/config/config.php", "/%64ata/.ncdata", "//data/x", "/a/../data/x", "/.htaccess"]
        {
            assert_eq!(request(edge, &format!("GET {path} HTTP/1.1")).status, 404, "{path}");
            assert!(origin.requests().iter().all(|request| request.path() != path), "{path}");
        }
        for path in ["/apps/x/data/y", "/database", "/ocs-provider/", "/ocm-provider/"] {
            assert_eq!(request(edge, &format!("HEAD {path} HTTP/1.1")).status, 200, "{path}");
        }
    });
    assert!(origin.requests().iter().any(|request| request.line() == "HEAD /ocs-provider/ HTTP/1.1"));
}

#[test]
fn exapps_are_answered_plainly_until_somebody_serves_them() {
    let (origin, harp) = (echo(), Origin::answering(|_| ok("harp")));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let response = request(edge, "GET /exapps/app/x HTTP/1.1");
        assert_eq!(response.status, 404);
        assert!(response.text().contains("No gateway for external apps"));
        edge.wait("it is counted", |edge| {
            edge.metric("lyre_http_failed_total{side=\"internal\",reason=\"no_gateway\"}") == 1
        });
        assert_eq!(request(edge, "GET /exappsx HTTP/1.1").status, 200);
    });
    let own = format!(
        "[[pool]]\nname = \"harp\"\nservers = [\"{}\"]\n[[route]]\npath = \"/exapps/\"\npool = \"harp\"\n\
         hosts = [\"cloud.test\"]\n",
        harp.address
    );
    on_each_driver(&Origin::config(&[&origin], &own), |edge| {
        assert_eq!(request(edge, "GET /exapps/app/x HTTP/1.1").text(), "harp");
    });
}

#[test]
fn responses_of_nextcloud_carry_each_protecting_field_once() {
    let origin = Origin::answering(|request| match request.path() {
        "/own" => {
            b"HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nx-robots-tag: none\r\nX-Robots-Tag: noindex, nofollow\r\n\
                    Referrer-Policy: same-origin\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        }
        _ => ok(""),
    });
    let other = Origin::answering(|_| ok(""));
    let more = format!("[push]\nservers = [\"{}\"]\n", other.address);
    on_each_driver(&Origin::config(&[&origin], &more), |edge| {
        let names = [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Robots-Tag", "noindex, nofollow"),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("X-Permitted-Cross-Domain-Policies", "none"),
            ("X-XSS-Protection", "1; mode=block"),
            ("Referrer-Policy", "no-referrer"),
        ];
        let bare = request(edge, "GET /index.php/heartbeat HTTP/1.1");
        for (name, value) in names {
            assert_eq!(bare.field(name), Some(value));
        }
        // The listener is plain: no promise about https.
        assert_eq!(bare.field("strict-transport-security"), None);
        let own = request(edge, "GET /own HTTP/1.1");
        for (name, _) in names {
            let count = own.head.to_ascii_lowercase().matches(&format!("\r\n{}:", name.to_ascii_lowercase())).count();
            assert_eq!(count, 1, "{name} in {}", own.head);
        }
        assert_eq!((own.field("x-frame-options"), own.field("x-robots-tag")), (Some("DENY"), Some("none")));
        assert_eq!(own.field("referrer-policy"), Some("same-origin"));
        assert_eq!(request(edge, "GET /push/x HTTP/1.1").field("x-frame-options"), None);
    });
}

#[test]
fn a_windows_client_at_the_root_gets_nextclouds_own_redirect() {
    let origin = Origin::answering(|request| match request.field("user-agent") {
        Some(agent) if agent.starts_with("DavClnt") => {
            b"HTTP/1.1 302 Found\r\nLocation: /remote.php/webdav/\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ => ok(""),
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let response = request(edge, "GET / HTTP/1.1\r\nUser-Agent: DavClnt");
        assert_eq!((response.status, response.field("location")), (302, Some("/remote.php/webdav/")));
    });
}

/// The services beside Nextcloud, each an origin that says what it got.
fn services() -> (Vec<Origin>, String) {
    let named = |name: &'static str| {
        Origin::answering(move |request| {
            let host = request.field("x-forwarded-host").unwrap_or_default();
            ok(format!("{name} {} {host}", request.path()))
        })
    };
    let names = ["push", "talk", "collabora", "onlyoffice", "whiteboard"];
    let origins: Vec<Origin> = names.into_iter().map(named).collect();
    let section = |(name, origin): (&str, &Origin)| format!("[{name}]\nservers = [\"{}\"]\n", origin.address);
    let config = names.into_iter().zip(&origins).map(section).collect();
    (origins, config)
}

#[test]
fn services_are_found_at_their_paths_of_the_nextcloud_host() {
    let web = Origin::answering(|request| ok(format!("web {}", request.path())));
    let (_origins, config) = services();
    on_each_driver(&Origin::config(&[&web], &config), |edge| {
        for (target, got) in [
            ("/push/ws", "push /push/ws cloud.test"),
            ("/pushx", "web /pushx"),
            ("/standalone-signaling/spreed?v=%2F", "talk /spreed?v=%2F cloud.test"),
            ("/standalone-signaling/api/v1/welcome", "talk /api/v1/welcome cloud.test"),
            ("/standalone-signaling", "talk / cloud.test"),
            ("/hosting/discovery", "collabora /hosting/discovery cloud.test"),
            ("/browser/a/cool.html", "collabora /browser/a/cool.html cloud.test"),
            ("/cool/https%3A%2F%2Fx%3Fa/ws", "collabora /cool/https%3A%2F%2Fx%3Fa/ws cloud.test"),
            ("/onlyoffice/web-apps/x%2F", "onlyoffice /web-apps/x%2F cloud.test/onlyoffice"),
            ("/whiteboard/socket.io/?EIO=4", "whiteboard /socket.io/?EIO=4 cloud.test"),
            ("/index.php/apps/richdocuments/wopi/x", "web /index.php/apps/richdocuments/wopi/x"),
        ] {
            assert_eq!(request(edge, &format!("GET {target} HTTP/1.1")).text(), got);
        }
    });
    // None of them is there unless it is configured.
    on_each_driver(&Origin::config(&[&web], ""), |edge| {
        for target in ["/push/ws", "/standalone-signaling/spreed", "/cool/x/ws", "/onlyoffice/x"] {
            assert_eq!(request(edge, &format!("GET {target} HTTP/1.1")).text(), format!("web {target}"));
        }
    });
}

#[test]
fn everybody_who_edits_a_document_meets_at_one_server() {
    let web = echo();
    let offices: Vec<Origin> = (0..3).map(|number| Origin::answering(move |_| ok(number.to_string()))).collect();
    let servers: Vec<String> = offices.iter().map(|office| format!("\"{}\"", office.address)).collect();
    let more = format!("[collabora]\nservers = [{}]\n", servers.join(", "));
    let mut homes = Vec::new();
    for cores in [1, 2] {
        let edge = Edge::start(&Origin::config(&[&web], &more), "epoll", cores);
        for document in 0..12 {
            let wopi = format!("https%3A%2F%2Fcloud.test%2Fwopi%2Ffiles%2F{document}_oc");
            let home = request(&edge, &format!("GET /browser/x/cool.html?WOPISrc={wopi} HTTP/1.1")).text();
            for _ in 0..3 {
                let socket = format!("GET /cool/{wopi}%3Faccess_token%3D{}/ws HTTP/1.1", fastrand::u32(..));
                assert_eq!(request(&edge, &socket).text(), home, "document {document}");
            }
            homes.push(home);
        }
    }
    // Every node and every core agree, and the documents do not all have the same home.
    let (one, two) = homes.split_at(12);
    assert_eq!(one, two);
    assert!(one.iter().any(|home| *home != one[0]));
}

#[test]
fn rooms_stay_with_the_first_signaling_server() {
    let web = echo();
    let servers: Vec<Origin> = (0..2).map(|number| Origin::answering(move |_| ok(number.to_string()))).collect();
    let more = format!("[talk]\nservers = [\"{}\", \"{}\"]\n", servers[0].address, servers[1].address);
    on_each_driver(&Origin::config(&[&web], &more), |edge| {
        for _ in 0..10 {
            assert_eq!(request(edge, "GET /standalone-signaling/spreed HTTP/1.1").text(), "0");
        }
    });
}

#[test]
fn https_promises_itself_once_whatever_the_server_says() {
    if !crate::h2::has("curl") {
        return;
    }
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    for (more, expected) in [
        ("", "max-age=63072000; includeSubDomains"),
        ("hsts = \"180d\"\nhsts_subdomains = false\n", "max-age=15552000"),
        ("hsts = \"off\"\n", "max-age=1"),
    ] {
        crate::h2::on_each_driver(&Origin::config(&[&origin], more), |edge| {
            for version in ["--http2", "--http1.1"] {
                let head = crate::h2::curl(edge, &[version, "-I"], "/index.php/heartbeat").stdout;
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let values: Vec<_> =
                    head.lines().filter_map(|line| line.strip_prefix("strict-transport-security: ")).collect();
                assert_eq!(values, [expected.to_ascii_lowercase()], "{version}");
                assert!(head.contains("x-content-type-options: nosniff"), "{head}");
            }
        });
    }
}

#[test]
fn a_name_only_the_web_server_knows_is_not_decoded_for_the_office() {
    let web = echo();
    let office = Origin::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        peer.drain();
    });
    let more = format!("[collabora]\nservers = [\"{}\"]\n", office.address);
    on_each_driver(&Origin::config(&[&web], &more), |edge| {
        let target = "/cool/https%3A%2F%2Fcloud.test%2Findex.php%2Fapps%2Frichdocuments%2Fwopi%2Ffiles%2F7_oc%3Fa%3Db/ws?WOPISrc=x";
        let mut client = edge.connect();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: cloud.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(office.requests().pop().unwrap().path(), target);
    });
}
