//! Statements -> lyre.toml.
//!
//! Every block is read into a plain value by its own file (instance, speech, trackers, hooks, groups, servers), [`nodes`] makes the
//! pair out of them, [`settle`] takes out what `lyre check` would refuse, [`document`] writes it down.

mod addresses;
mod document;
mod garp;
mod groups;
mod hooks;
mod instance;

mod nodes;
mod numbers;
mod servers;
mod settle;
mod speech;
mod trackers;

use super::Import;
use super::expand::Expanded;
use super::keywords::{self, Block};
use super::tree::Statement;
use crate::import::error::Position;
use crate::import::findings::{self, Class, Findings};
use document::Document;
use garp::Garp;
use hooks::Hook;
use std::path::Path;

/// Defaults of `global_defs`.
#[derive(Default)]
struct Globals {
    router_id: Option<String>,
    version: Option<u8>,
    default_interface: Option<String>,
    down_adverts: Option<u8>,
    has_plain_checksum: bool,
    garp: Garp,
    hooks: Vec<Hook>,
}

pub(super) fn map(path: &Path, host: &str, statements: &[Statement], expanded: Expanded) -> Import {
    let mut findings = expanded.findings;
    let mut globals = globals(&mut findings, statements);
    let mut trackers = trackers::define(&mut findings, statements);
    let mut hooks = std::mem::take(&mut globals.hooks);
    let mut instances = Vec::new();
    let mut services = Vec::new();
    for statement in statements {
        match statement.name() {
            "global_defs" | "vrrp_script" | "vrrp_track_process" | "vrrp_track_file" | "track_file"
            | "vrrp_sync_group" => {}
            "vrrp_instance" => {
                let mut hook = Hook::of(vec![instances.len()]);
                let index = instances.len();
                let instance = instance::read(&mut findings, &globals, &mut trackers, &mut hook, statement, index);
                instances.push(instance);
                hooks.push(hook);
            }
            "virtual_server" => services.push(servers::read(&mut findings, statement)),
            "virtual_server_group" => {
                let why = "a group of addresses or marks has no form here; name each address in a virtual_server";
                findings.refused(statement, why);
            }
            _ => keywords::note(&mut findings, Block::Top, statement),
        }
    }
    if instances.is_empty() && services.is_empty() {
        let at = Position { file: findings::one_line(&path.display().to_string()).into(), line: 0 };
        findings.at(&at, Class::Refused, "the whole file", "has no vrrp_instance and no virtual_server for this host");
    }
    groups::read(&mut findings, statements, &mut instances, &mut trackers, &mut hooks);
    hooks::removals(&mut hooks);
    hooks::fifo_scripts(&mut findings, &mut hooks, statements);
    hooks::priority_changes(&mut findings, &mut hooks, statements);
    let nodes = nodes::find(host, &globals, &mut instances);
    settle::routers(&mut findings, &nodes, &mut instances);
    settle::services(&mut findings, &mut services);
    findings.sort(statements.iter().map(Statement::at));
    let document = Document {
        source: path,
        host,
        nodes: &nodes,
        instances: &instances,
        services: &services,
        trackers: &trackers.used,
        hooks: &hooks,
        findings: &findings.0,
        other_hosts: &expanded.other_hosts,
    };
    Import { toml: document.write(), findings: findings.0 }
}

fn globals(findings: &mut Findings, statements: &[Statement]) -> Globals {
    let mut globals = Globals::default();
    for statement in statements.iter().filter(|s| s.name() == "global_defs").flat_map(Statement::inside) {
        let argument = statement.argument(0);
        match (statement.name(), argument) {
            ("router_id" | "lvs_id", Some(name)) => {
                globals.router_id = Some(name.to_owned());
                findings.mapped(statement, "cluster.nodes[].name of this node");
            }
            ("vrrp_version", Some(version @ ("2" | "3"))) => {
                globals.version = version.parse().ok();
                findings.mapped(statement, "vip.version");
            }
            ("v3_checksum_as_v2", _) => {
                globals.has_plain_checksum = argument.is_none_or(is_on);
                findings.mapped(statement, "vip.checksum");
            }
            ("notify_fifo" | "vrrp_notify_fifo", _) => match hooks::fifo(findings, statement) {
                Some(hook) => globals.hooks.push(hook),
                None => findings.refused(statement, "is no absolute path"),
            },
            ("vrrp_notify_priority_changes", _) => {} // with the FIFO, at the end
            ("notify_fifo_script" | "vrrp_notify_fifo_script", _) => {} // the same
            _ if globals.garp.read(findings, statement) => {}
            ("vrrp_version", _) => findings.refused(statement, "is not 2 or 3"),
            ("default_interface", Some(name)) => {
                globals.default_interface = Some(name.to_owned());
                findings.mapped(statement, "vip.interface where an instance names none");
            }
            ("vrrp_down_timer_adverts", _) => match numbers::whole(argument, 1..=255) {
                Some(count) => {
                    globals.down_adverts = Some(count);
                    findings.mapped(statement, "vip.down_adverts");
                }
                None => findings.refused(statement, "is not 1..255"),
            },
            ("vrrp_mcast_group4", Some("224.0.0.18")) | ("vrrp_mcast_group6", Some("ff02::12" | "FF02::12")) => {
                findings.mapped(statement, "the group of RFC 9568 is the only one");
            }
            ("vrrp_mcast_group4" | "vrrp_mcast_group6", _) => {
                findings.refused(statement, "Lyre sends to the group of RFC 9568; both nodes must be Lyre");
            }
            _ => keywords::note(findings, Block::Global, statement),
        }
    }
    globals
}

/// keepalived's booleans.
fn is_on(word: &str) -> bool {
    matches!(word, "on" | "true" | "yes")
}
