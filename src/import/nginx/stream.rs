//! `stream`: connections that are passed on as they are.

use super::backends::Backends;
use super::keywords::{self, Block};
use super::listen;
use super::tree::Directive;
use super::units::ms;
use crate::import::edge::{self, Edge, Service};
use crate::import::findings::{Findings, Said as _};

pub(super) fn read(findings: &mut Findings, edge: &mut Edge, stream: &Directive) {
    let backends = Backends::read(findings, stream.inside(), true);
    for directive in stream.inside() {
        match directive.name() {
            "upstream" => {}
            "server" => server(findings, edge, &backends, directive),
            _ => keywords::note(findings, Block::Stream, directive),
        }
    }
}

fn server(findings: &mut Findings, edge: &mut Edge, backends: &Backends, block: &Directive) {
    let mut service =
        Service { name: "tcp".to_owned(), shown: block.shown(), at: Some(block.at.clone()), ..Service::default() };
    let mut is_closed = false;
    for directive in block.inside() {
        let value = directive.word(1);
        match directive.name() {
            "listen" => {
                let Some(listen) = listen::read(findings, directive) else { continue };
                if listen.has_tls {
                    service.problem = Some("TLS does not end at a [[tcp]]; only at requests".to_owned());
                }
                if listen.has_proxy {
                    service.problem = Some("a [[tcp]] takes no PROXY headers from its clients".to_owned());
                }
                service.listen.extend(listen.addresses);
            }
            "proxy_pass" if value.contains('$') => findings.refused(
                directive,
                "connections are not told apart by what is in them, as by the name that TLS asks for: one [[tcp]] for each \
                 address, or TLS that ends at Lyre and a [[route]] for each host",
            ),
            "proxy_pass" => {
                let upstream = backends.servers(value, 0);
                service.name = value.split(':').next().unwrap_or_default().to_owned();
                service.servers = upstream.servers.iter().filter_map(|server| server.parse().ok()).collect();
                service.names = upstream.names;
                service.max_connections = upstream.max_connections;
                service.mode = upstream.mode.or(upstream.has_backup.then_some("first"));
                findings.mapped(directive, "tcp.servers");
            }
            "proxy_connect_timeout" => match ms(value) {
                Some(ms) => {
                    service.connect_ms = Some(ms);
                    findings.mapped(directive, "tcp.connect_timeout");
                }
                None => findings.refused(directive, "is no time"),
            },
            "proxy_timeout" => match ms(value) {
                Some(ms) => {
                    service.idle_ms = Some(ms);
                    findings.mapped(directive, "tcp.idle_timeout");
                }
                None => findings.refused(directive, "is no time"),
            },
            "proxy_protocol" if value == "on" => {
                service.proxy_protocol = Some("v1");
                findings.mapped(directive, "tcp.proxy_protocol = \"v1\"");
            }
            "allow" if value != "all" => match edge::network(value) {
                Some(network) => {
                    service.allow.push(network);
                    findings.mapped(directive, "tcp.allow");
                }
                None => findings.refused(directive, "is no address or network"),
            },
            "deny" if value == "all" => {
                is_closed = true;
                findings.mapped(directive, "tcp.allow: nobody else");
            }
            _ => keywords::note(findings, Block::Stream, directive),
        }
    }
    if !is_closed {
        service.allow.clear();
    }
    if service.listen.iter().chain(&service.servers).any(|address| address.port() == 3306) {
        let note = "For a Galera cluster write check = { kind = \"galera\", user = \"lyre\" }; docs/configuration.md has the account.";
        service.notes.push(note.to_owned());
    }
    edge.services.push(service);
}
