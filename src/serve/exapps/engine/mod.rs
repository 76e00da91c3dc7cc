//! AppAPI's Docker calls: `policy::exapp::engine` says what to ask the container engine next, here it is asked.
//!
//! Every call has a connection of its own to the engine's Unix socket, or through its tunnel, and each course of calls begins
//! by asking the engine which versions it speaks: these are a few calls an ExApp, and an engine that was replaced meanwhile
//! is spoken to rightly.
//! All of it waits on the core that has the request, and blocks nothing.

pub(super) mod raw;

use crate::config::settings::ExApps;
use crate::config::settings::docker::Docker;
use crate::net::clock::{Timer, tick};
use crate::net::stream::Stream;
use crate::net::target::{Order, Target};
use crate::net::upstream::connect;
use crate::policy::exapp::control::{self, Command, Verb};
use crate::policy::exapp::engine::{Answer, Call, FrpFiles, Next, Plan, Policy, Versions};
use crate::policy::exapp::reply::Reply;
use crate::proto::frp::identity::{ENGINE_PORTS, Grant, mint_token};
use crate::serve::ask::ask;
use crate::serve::core::Core;
use crate::serve::frp::Behind;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The engine of this node, as HaRP has it.
const LOCAL_PORT: u16 = 24_000;

/// AppAPI gives the call that looks whether the engine is there three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Of an answer: the description of a container is some kilobytes, and what a command prints is not needed to its end.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// One of the eight calls of AppAPI.
pub(super) async fn command(core: &Core, exapps: &ExApps, verb: Verb, port: Option<&[u8]>, body: &[u8]) -> Reply {
    let (port, command) = match control::docker(verb, port, body) {
        Ok((port, command)) => (port, with_own_token(command, exapps)),
        Err(reply) => return reply,
    };
    let engine = Engine { core, docker: exapps.docker.as_ref(), port };
    let mut plan = match Plan::new(port, command, &engine.policy(), engine.frp_files()) {
        Ok(plan) => plan,
        Err(reply) => return reply,
    };
    let timer = Timer::new();
    timer.arm(plan.time_max);
    let bounded = timer.bound(engine.run(&mut plan)).await;
    let reply = bounded.unwrap_or_else(|_| plan.timed_out());
    for note in plan.notes() {
        tracing::warn!(?verb, "{note}");
    }
    match reply.status {
        200..300 => tracing::info!(?verb, port, status = reply.status, "AppAPI's call to the container engine"),
        status => {
            let text = String::from_utf8_lossy(&reply.body);
            tracing::warn!(?verb, port, status, reply = ?text, "AppAPI's call to the container engine failed");
        }
    }
    reply
}

/// HaRP gives each container the key that opens everything.
fn with_own_token(command: Command, exapps: &ExApps) -> Command {
    let Command::Create(mut create) = command else { return command };
    let grant = create.tunnel().map(|(name, port)| Grant { proxy_name: name.to_owned(), remote_port: port });
    if let Some(token) = grant.and_then(|grant| mint_token(&exapps.shared_key.0, &grant)) {
        create.set_tunnel_token(&token);
    }
    Command::Create(create)
}

/// An engine by its port.
struct Engine<'c> {
    core: &'c Core,
    docker: Option<&'c Docker>,
    port: u16,
}

impl Engine<'_> {
    fn policy(&self) -> Policy {
        self.docker.map_or_else(Policy::default, |docker| Policy {
            mounts: docker.mounts.clone(),
            devices: docker.devices,
            host_network: docker.host_network,
        })
    }

    fn frp_files(&self) -> Option<FrpFiles> {
        let files = self.docker?.frp_client.as_ref()?;
        Some(FrpFiles {
            ca_cert: files.ca.0.to_vec(),
            client_cert: files.certificate.0.to_vec(),
            client_key: files.key.0.to_vec(),
        })
    }

    async fn run(&self, plan: &mut Plan) -> Reply {
        let versions = self.versions().await;
        let mut next = match versions {
            Some(_) => plan.begin(),
            None => plan.heard(Answer::Unreachable),
        };
        loop {
            next = match next {
                Next::Done(reply) => return reply,
                Next::Wait(length) => {
                    tick(length).await;
                    plan.waited()
                }
                Next::Call(call) => {
                    let answer = match versions {
                        Some(versions) => self.call(call, versions).await,
                        None => None,
                    };
                    let answer = answer.map(|(status, body)| Answer::Response { status, body });
                    plan.heard(answer.unwrap_or(Answer::Unreachable))
                }
            };
        }
    }

    /// `None`: the engine does not answer.
    async fn versions(&self) -> Option<Versions> {
        let (status, body) = self.ask(Versions::call()).await?;
        Some(Versions::of(status, &body))
    }

    async fn call(&self, call: Call, versions: Versions) -> Option<(u16, Vec<u8>)> {
        let path = versions.path(&call.path);
        self.ask(Call { path, ..call }).await
    }

    async fn ask(&self, call: Call) -> Option<(u16, Vec<u8>)> {
        let asked = async { ask(&self.connect().await?, request(&call), ANSWER_BYTES_MAX).await };
        match asked.await {
            Ok(answer) => Some(answer),
            Err(error) => {
                let port = self.port;
                tracing::warn!(port, %error, "no answer from the container engine{}", remedy(&error));
                None
            }
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        let nobody = || io::Error::new(io::ErrorKind::NotFound, "there is no engine at this port");
        let target = self.target().ok_or_else(nobody)?;
        connect(&self.core.driver, &target, None, CONNECT_TIMEOUT, Order::Plain).await
    }

    /// A tunnel is an engine's only where this node does not have that engine itself: whoever holds one is sent secrets.
    fn target(&self) -> Option<Target> {
        if let Some(docker) = self.docker.filter(|_| self.port == LOCAL_PORT) {
            return Some(Target::Unix(docker.socket.clone()));
        }
        let tunnels = &self.core.shared.tunnels;
        let is_there = ENGINE_PORTS.contains(&self.port) && tunnels.is_up(self.port);
        let place = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        is_there.then(|| Target::Far(place, Arc::new(Behind::new(place, tunnels.clone()))))
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": let the group of its socket read and write it, and start lyre again",
        io::ErrorKind::NotFound => ": is it started, and its socket the one of [exapps.docker]?",
        _ => "",
    }
}

fn request(Call { method, path, content_type, body }: &Call) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
    if !content_type.is_empty() {
        request.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    if *method != "GET" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_whole_requests() {
        let call = Call { method: "GET", path: "/v1.41/volumes/a".into(), content_type: "", body: Vec::new() };
        assert_eq!(request(&call), b"GET /v1.41/volumes/a HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
        let call = Call { method: "POST", content_type: "application/json", body: b"{}".to_vec(), ..call };
        let expected = "POST /v1.41/volumes/a HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
                        Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(request(&call), expected.as_bytes());
    }
}
