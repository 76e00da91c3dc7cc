//! ExApps as servers: each place that a record names is a pool of one, made when it is asked for.

use super::memory::UPSTREAMS_MAX;
use crate::config::settings::{self, Balance, Check, CheckKind, Place, PoolKind};
use crate::net::clock::tick;
use crate::net::target::Target;
use crate::proto::frp::identity::ENGINE_PORTS;
use crate::serve::core::{Core, PoolView};
use crate::serve::frp::{Behind, Tunnels};
use crate::serve::shared::{Crowd, Pool, Server};
use crate::telemetry::counters::CoreCounters;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// In logs.
const POOL: &str = "exapp";
const ENGINE: &str = "engine";

const S: Duration = Duration::from_secs(1);

/// AppAPI gives a call that looks whether an app is there three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// As HaRP waits: models are loaded, files converted.
const RESPONSE_TIMEOUT: Duration = S.saturating_mul(1_800);

const TUNNEL_TIMEOUT: Duration = S.saturating_mul(3_600);

/// Below the five seconds of uvicorn, which most ExApps are served by.
const KEEPALIVE: Duration = S.saturating_mul(4);

/// WebSockets that stay for hours: the limit is there to be finite.
const REQUESTS_MAX: u32 = 65_536;

/// A new name is looked up within this, or the request is answered without.
const RESOLVED_BY: Duration = S.saturating_mul(3);
const LOOK: Duration = Duration::from_millis(10);

/// One core's connections to ExApps.
#[derive(Default)]
pub struct Upstreams(RefCell<HashMap<(String, u16), Rc<PoolView>>>);

impl Upstreams {
    pub(super) fn pool(&self, core: &Core, host: &str, port: u16) -> Rc<PoolView> {
        let key = (host.to_owned(), port);
        let shared = core.shared.exapps.upstream(&key);
        let mut views = self.0.borrow_mut();
        if let Some(known) = views.get(&key)
            && Arc::ptr_eq(&known.shared, &shared)
        {
            return known.clone();
        }
        if views.len() >= UPSTREAMS_MAX {
            views.clear();
        }
        let view = Rc::new(PoolView::of(shared));
        views.insert(key, view.clone());
        view
    }

    pub fn tend(&self, counters: &CoreCounters) {
        for view in self.0.borrow().values() {
            view.lines.wake();
            view.servers.iter().for_each(|upstream| upstream.idle.tend(KEEPALIVE, counters));
        }
    }
}

/// Waits until the name of a new ExApp was looked up, but not long.
pub(super) async fn resolved(pool: &PoolView) {
    let looks = RESOLVED_BY.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if pool.servers.iter().all(|upstream| upstream.server.target.is_resolved()) {
            return;
        }
        tick(LOOK).await;
    }
}

/// On this host's loopback is what Nextcloud believes to be behind a tunnel, unless it really is there. Tunnels of container
/// engines are not for requests to apps, whatever a record or a signed call says.
pub(super) fn make(host: &str, port: u16, cores: usize, tunnels: &Arc<Tunnels>) -> Pool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (name, place) = match bare.parse::<IpAddr>() {
        Ok(ip) => (SocketAddr::new(ip, port).to_string(), Place::Ip(SocketAddr::new(ip, port))),
        Err(_) => (format!("{host}:{port}"), Place::Name { host: host.to_ascii_lowercase(), port }),
    };
    let place = settings::Server { name, place };
    let mut server = Server::new(POOL, &place, cores);
    if let Target::Ip(place) = server.target
        && place.ip().is_loopback()
        && !ENGINE_PORTS.contains(&port)
    {
        server.target = Target::Far(place, Arc::new(Behind::new(place, tunnels.clone())));
    }
    pool(POOL, place, server)
}

/// The container engine of this port.
pub(super) fn engine(port: u16, target: Target, cores: usize) -> Pool {
    let name = port.to_string();
    let place = settings::Server { place: Place::Name { host: ENGINE.to_owned(), port }, name };
    let mut server = Server::new(ENGINE, &place, cores);
    server.target = target;
    pool(ENGINE, place, server)
}

fn pool(name: &str, place: settings::Server, server: Server) -> Pool {
    let servers = vec![Arc::new(server)];
    // Nothing probes it: whether an app answers is AppAPI's question.
    let check = Check { kind: CheckKind::Tcp, interval: S, timeout: S, rise: 1, fall: 1 };
    let settings = settings::Pool {
        name: name.to_owned(),
        servers: vec![place],
        check,
        max_requests_per_server: REQUESTS_MAX,
        connect_timeout: CONNECT_TIMEOUT,
        response_timeout: RESPONSE_TIMEOUT,
        idle_timeout: RESPONSE_TIMEOUT,
        tunnel_timeout: TUNNEL_TIMEOUT,
        keepalive: KEEPALIVE,
        queue_timeout: S,
        send_proxy: None,
        queue_max: REQUESTS_MAX,
        balance: Balance::First,
        upgrades_per_second: REQUESTS_MAX,
        kind: PoolKind::ExApp,
    };
    Pool { settings, servers, crowd: Arc::new(Crowd::default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_on_this_host_are_looked_for_behind_tunnels_and_engines_never() {
        let tunnels = Arc::new(Tunnels::default());
        let is_far = |host: &str, port| {
            let pool = make(host, port, 1, &tunnels);
            matches!(pool.servers[0].target, Target::Far(..))
        };
        assert!(is_far("127.0.0.1", 23_000) && is_far("::1", 23_999) && is_far("[::1]", 9_000));
        assert!(!is_far("127.0.0.1", 24_000) && !is_far("127.0.0.1", 24_099));
        assert!(!is_far("10.0.0.5", 23_000) && !is_far("app", 23_000));
    }
}
