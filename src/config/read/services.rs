//! What stands beside Nextcloud and is reached through its name: `[push]`, `[talk]`, `[collabora]`, `[onlyoffice]`,
//! `[whiteboard]`. One row each; the table in docs/configuration.md shows the same.

use super::Context;
use super::web::{Defaults, HOUR, S, Web, add_pool};
use crate::config::file::Section;
use crate::config::settings::{Balance, CheckKind, Place, PoolKind, Prefix, Route};
use std::time::Duration;

/// A section, which is also its pool's name.
struct Service {
    name: &'static str,
    port: u16,
    paths: &'static [&'static str],
    prefix: Prefix,
    balance: Balance,
    /// Response head, and bytes of a body.
    patience: Duration,
    tunnel: Duration,
    keepalive: Duration,
    check_path: &'static str,
}

/// Their requests are WebSockets that stay for hours: the limit is there to be finite.
const CONNECTIONS_MAX: u32 = 65_536;

const SERVICES: [Service; 5] = [
    Service {
        name: "push",
        port: 7867,
        paths: &["/push/"],
        // The daemon answers under both names.
        prefix: Prefix::Kept,
        balance: Balance::Load,
        patience: S.saturating_mul(60),
        tunnel: HOUR,
        keepalive: S.saturating_mul(50),
        // It has no health route; without its token this answers 4xx, which is life enough.
        check_path: "/test/cookie",
    },
    Service {
        name: "talk",
        port: 8080,
        paths: &["/standalone-signaling/"],
        prefix: Prefix::Stripped,
        // Rooms live in one server's memory unless the servers are clustered.
        balance: Balance::First,
        patience: S.saturating_mul(60),
        tunnel: HOUR,
        keepalive: S.saturating_mul(50),
        check_path: "/api/v1/welcome",
    },
    Service {
        name: "collabora",
        port: 9980,
        paths: &["/browser/", "/hosting/", "/cool/", "/loleaflet/", "/lool/"],
        prefix: Prefix::Kept,
        balance: Balance::Document,
        // Conversions of large documents.
        patience: S.saturating_mul(600),
        tunnel: HOUR.saturating_mul(10),
        keepalive: S.saturating_mul(4),
        check_path: "/",
    },
    Service {
        name: "onlyoffice",
        port: 80,
        paths: &["/onlyoffice/"],
        prefix: Prefix::Hosted,
        balance: Balance::Document,
        patience: S.saturating_mul(600),
        tunnel: HOUR,
        keepalive: S.saturating_mul(4),
        check_path: "/healthcheck",
    },
    Service {
        name: "whiteboard",
        port: 3002,
        paths: &["/whiteboard/"],
        prefix: Prefix::Stripped,
        // socket.io counts on meeting the same server again.
        balance: Balance::First,
        patience: S.saturating_mul(60),
        tunnel: HOUR,
        keepalive: S.saturating_mul(4),
        check_path: "/",
    },
];

const BALANCES: [(&str, Balance); 3] =
    [("load", Balance::Load), ("document", Balance::Document), ("first", Balance::First)];

/// Whether a pool of the operator's may not have this name.
pub(super) fn is_taken(name: &str) -> bool {
    name == "web" || SERVICES.iter().any(|service| service.name == name)
}

/// Every service that is configured, at its paths of the Nextcloud hosts.
pub(super) fn read<'a>(c: &mut Context, root: &mut Section<'a>, web: &mut Web<'a>, hosts: Option<&[String]>) {
    let web_servers = web.pools.first().map_or(1, |pool| pool.servers.len());
    for service in &SERVICES {
        let Some(item) = root.optional(service.name) else { continue };
        let Some(mut section) = item.section(&mut c.f) else { continue };
        let host = hosts.and_then(|hosts| hosts.first()).cloned().unwrap_or_else(|| "localhost".to_owned());
        let defaults = Defaults {
            port: service.port,
            max_requests_per_server: CONNECTIONS_MAX,
            response: service.patience,
            idle: service.patience,
            tunnel: service.tunnel,
            keepalive: service.keepalive,
            balance: section.choice(&mut c.f, "balance", &BALANCES, service.balance),
            // Every client that comes costs the web servers a login and several requests.
            upgrading_servers: Some(web_servers),
            kind: PoolKind::Other,
            check: CheckKind::HttpAlive { path: service.check_path.to_owned(), host },
        };
        let pool = add_pool(c, &mut section, web, service.name.to_owned(), defaults);
        if service.name == "push" {
            // It asks Nextcloud in the name of its clients.
            let servers = || web.pools.get(pool).into_iter().flat_map(|pool| &pool.servers);
            if servers().any(|server| matches!(server.place, Place::Name { .. })) {
                let hint = "Write its addresses, or list them in nextcloud.trusted_proxies.";
                item.warning(&mut c.f, "servers that are named are not believed about clients", hint);
            }
            web.trust.services =
                servers().filter_map(|server| server.place.ip()).map(|address| address.ip().to_canonical()).collect();
        }
        section.finish(&mut c.f);
        let Some(hosts) = hosts else {
            let paths = service.paths.join(" and ");
            let hint = format!("[{}] serves {paths} of the Nextcloud hosts.", service.name);
            item.error(&mut c.f, "there is no [nextcloud]", hint);
            continue;
        };
        let route =
            |path: &&str| Route { hosts: hosts.to_vec(), path: (*path).to_owned(), pool, prefix: service.prefix };
        web.routes.extend(service.paths.iter().map(route));
    }
}
