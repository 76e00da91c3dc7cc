//! The proxies of a session: checked in the order frps checks them, claimed in the registry, answered.

use super::{Action, Wrapping};
use crate::proto::frp::identity::Identity;
use crate::proto::frp::message::{Message, NewProxy, NewProxyResp};
use crate::proto::frp::registry::{Admission, Conflict, Registry, SessionId, Source};
use std::time::Duration;

/// Longer than any app's id, with a user in front.
const NAME_BYTES_MAX: usize = 128;

/// A client takes work connections for a proxy from when it has read our answer; one that comes in the same
/// millisecond it closes without a word.
const GRACE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Proxy {
    name: String,
    port: u16,
    wrapping: Wrapping,
    live_at: Duration,
}

/// A proxy whose name or port another session has, which is being asked whether it is there.
#[derive(Debug)]
struct Contested {
    proxy: NewProxy,
    holder: SessionId,
}

#[derive(Debug)]
pub(super) struct Proxies {
    identity: Identity,
    ports_max: usize,
    live: Vec<Proxy>,
    contested: Vec<Contested>,
}

impl Proxies {
    pub(super) fn new(identity: Identity, ports_max: usize) -> Proxies {
        Proxies { identity, ports_max, live: Vec::new(), contested: Vec::new() }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (&str, u16)> {
        self.live.iter().map(|proxy| (proxy.name.as_str(), proxy.port))
    }

    /// From when on the port can be opened.
    pub(super) fn live_at(&self, port: u16) -> Option<Duration> {
        self.live.iter().find(|proxy| proxy.port == port).map(|proxy| proxy.live_at)
    }

    pub(super) fn serving(&self, port: u16) -> Option<(&str, Wrapping)> {
        self.live.iter().find(|proxy| proxy.port == port).map(|proxy| (proxy.name.as_str(), proxy.wrapping))
    }

    /// A NewProxy of the client.
    pub(super) fn register(
        &mut self,
        now: Duration,
        proxy: NewProxy,
        admission: &Admission,
        source: &Source,
        registry: &mut Registry,
        actions: &mut Vec<Action>,
    ) {
        let is_same = |live: &Proxy| live.name == proxy.proxy_name && i64::from(live.port) == proxy.remote_port;
        if self.live.iter().any(is_same) {
            // Our answer came too late for it; it asks again.
            return answer(&proxy.proxy_name, Ok(proxy.remote_port), actions);
        }
        if self.contested.iter().any(|contested| contested.proxy.proxy_name == proxy.proxy_name) {
            return;
        }
        match self.claim(now, &proxy, admission, source, registry, actions) {
            Ok(()) => {}
            Err(Verdict::Refused(error)) => answer(&proxy.proxy_name, Err(error), actions),
            // Its own other proxy: nobody to ask.
            Err(Verdict::Held(holder, error)) if holder == admission.session => {
                answer(&proxy.proxy_name, Err(error), actions);
            }
            Err(Verdict::Held(holder, _)) => {
                self.contested.push(Contested { proxy, holder });
                actions.push(Action::Probe(holder));
            }
        }
    }

    /// A holder was asked: what it still has stays its.
    pub(super) fn probed(
        &mut self,
        now: Duration,
        holder: SessionId,
        admission: &Admission,
        source: &Source,
        registry: &mut Registry,
        actions: &mut Vec<Action>,
    ) {
        let (asked, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.contested).into_iter().partition(|it| it.holder == holder);
        self.contested = others;
        for Contested { proxy, .. } in asked {
            if let Err(Verdict::Refused(error) | Verdict::Held(_, error)) =
                self.claim(now, &proxy, admission, source, registry, actions)
            {
                answer(&proxy.proxy_name, Err(error), actions);
            }
        }
    }

    /// A CloseProxy of the client; the port it had.
    pub(super) fn close(
        &mut self,
        now: Duration,
        name: &str,
        (admission, source): (&Admission, &Source),
        registry: &mut Registry,
    ) -> Option<u16> {
        self.contested.retain(|contested| contested.proxy.proxy_name != name);
        let at = self.live.iter().position(|proxy| proxy.name == name)?;
        registry.release(now, admission.session, source, name, false);
        Some(self.live.remove(at).port)
    }

    /// The session is over.
    pub(super) fn end(
        &mut self,
        now: Duration,
        admission: &Admission,
        source: &Source,
        registry: &mut Registry,
        actions: &mut Vec<Action>,
    ) {
        self.contested.clear();
        for proxy in self.live.drain(..) {
            registry.release(now, admission.session, source, &proxy.name, true);
            actions.push(Action::Down { proxy_name: proxy.name, remote_port: proxy.port });
        }
    }

    fn claim(
        &mut self,
        now: Duration,
        proxy: &NewProxy,
        admission: &Admission,
        source: &Source,
        registry: &mut Registry,
        actions: &mut Vec<Action>,
    ) -> Result<(), Verdict> {
        let port = self.check(proxy)?;
        let name = &proxy.proxy_name;
        registry.claim(now, admission.session, source, name, port).map_err(|conflict| match conflict {
            Conflict::Name(holder) => Verdict::Held(holder, format!("proxy [{name}] already exists")),
            Conflict::Port(holder) => Verdict::Held(holder, "port already used".to_owned()),
            Conflict::Kept => Verdict::Refused("port already used".to_owned()),
        })?;
        let wrapping = Wrapping { is_encrypted: proxy.use_encryption, is_compressed: proxy.use_compression };
        self.live.push(Proxy { name: name.clone(), port, wrapping, live_at: now + GRACE });
        answer(name, Ok(port.into()), actions);
        actions.push(Action::Up { proxy_name: name.clone(), remote_port: port });
        Ok(())
    }

    /// What can be said without the other sessions; the port.
    fn check(&self, proxy: &NewProxy) -> Result<u16, Verdict> {
        let refused = |error: String| Err(Verdict::Refused(error));
        let name = &proxy.proxy_name;
        if !matches!(proxy.proxy_type.as_str(), "" | "tcp") {
            let kind: String = proxy.proxy_type.chars().take(16).collect();
            return refused(format!("unknown proxy type: {}", kind.escape_debug()));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return refused(format!("a proxy name has 1 to {NAME_BYTES_MAX} printable bytes"));
        }
        if !proxy.group.is_empty() {
            return refused("groups are not served".to_owned());
        }
        if self.live.len() >= self.ports_max {
            return refused("exceed the max_ports_per_client".to_owned());
        }
        self.identity.may_claim(name, proxy.remote_port).map_err(|denied| Verdict::Refused(denied.to_string()))
    }
}

/// Why a claim does not succeed now.
enum Verdict {
    Refused(String),
    /// Another session has it; what to say if it is there.
    Held(SessionId, String),
}

fn answer(name: &str, outcome: Result<i64, String>, actions: &mut Vec<Action>) {
    let proxy_name = name.to_owned();
    let answer = match outcome {
        Ok(port) => NewProxyResp { proxy_name, remote_addr: format!(":{port}"), error: String::new() },
        Err(error) => NewProxyResp { proxy_name, remote_addr: String::new(), error },
    };
    actions.push(Action::Send(Message::NewProxyResp(answer)));
}
