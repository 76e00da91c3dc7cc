//! `vrrp_sync_group`: instances that move together.

use super::hooks::{self, Hook};
use super::instance::Instance;
use super::trackers::{self, Trackers};
use crate::import::findings::{Class, Findings};
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use crate::import::names::given_name;

pub(super) fn read(
    findings: &mut Findings,
    statements: &[Statement],
    instances: &mut [Instance],
    trackers: &mut Trackers,
    hooks: &mut Vec<Hook>,
) {
    for block in statements.iter().filter(|statement| statement.name() == "vrrp_sync_group") {
        let mut members = Vec::new();
        let lines = block.inside().iter().filter(|statement| statement.name() == "group");
        for line in lines.flat_map(Statement::inside) {
            members.extend(names(findings, instances, line));
        }
        members.dedup();
        let mut hook = Hook::of(members.clone());
        for statement in block.inside().iter().filter(|statement| statement.name() != "group") {
            let is_read = statement.name() == "notify_priority_changes" // with the FIFO, later
                || trackers::read(findings, trackers, statement, &members, None)
                || (statement.name() != "notify_deleted" && hooks::read(findings, &mut hook, statement));
            if !is_read {
                keywords::note(findings, Block::Group, statement);
            }
        }
        hook.group = group(findings, block, instances, &members);
        hooks.push(hook);
    }
}

/// Indices of the instances that a line of `group` names.
fn names(findings: &mut Findings, instances: &[Instance], line: &Statement) -> Vec<usize> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in line.words() {
        match instances.iter().position(|instance| instance.name == name) {
            Some(index) => found.push(index),
            None => missing.push(name),
        }
    }
    match missing.as_slice() {
        [] => findings.mapped(line, "vip.sync_group"),
        names => findings.refused(line, format!("there is no vrrp_instance {}", names.join(", "))),
    }
    found
}

/// Its name, if it is one.
fn group(findings: &mut Findings, block: &Statement, instances: &mut [Instance], members: &[usize]) -> Option<String> {
    let name = block.argument(0).and_then(|name| given_name(name, 63)).unwrap_or_else(|| "group".to_owned());
    let mut count = 0;
    for &member in members {
        if let Some(instance) = instances.get_mut(member).filter(|instance| instance.sync_group.is_none()) {
            instance.sync_group = Some(name.clone());
            count += 1;
        }
    }
    match count {
        0 => {
            findings.refused(block, "names no instance in a group { } block");
            None
        }
        1 => {
            instances.iter_mut().filter(|i| i.sync_group.as_ref() == Some(&name)).for_each(|i| i.sync_group = None);
            findings.ignored(block, "one member needs no group");
            None
        }
        _ => {
            findings.add(block, Class::Mapped, "vip.sync_group of its members");
            Some(name)
        }
    }
}
