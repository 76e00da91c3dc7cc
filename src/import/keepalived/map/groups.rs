//! `vrrp_sync_group`: instances that move together. On one interface they become one `[[vip]]`.

use super::instance::Instance;
use crate::import::keepalived::findings::{Class, Findings};
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;

pub(super) fn join(findings: &mut Findings, statements: &[Statement], instances: &mut [Instance]) {
    for block in statements.iter().filter(|statement| statement.name() == "vrrp_sync_group") {
        let mut members = Vec::new();
        for statement in block.inside() {
            match statement.name() {
                "group" => members.extend(statement.inside().iter().flat_map(|line| names(findings, instances, line))),
                _ => keywords::note(findings, Block::Group, statement),
            }
        }
        members.dedup();
        group(findings, block, instances, &members);
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
        [] => findings.mapped(line, "see what became of the group"),
        names => findings.refused(line, format!("there is no vrrp_instance {}", names.join(", "))),
    }
    found
}

fn group(findings: &mut Findings, block: &Statement, instances: &mut [Instance], members: &[usize]) {
    let mut kept: Vec<usize> = Vec::new();
    let mut joined = 0;
    for &member in members {
        let usable = instances.get(member).filter(|instance| instance.problem.is_none() && !instance.is_joined);
        let Some(interface) = usable.map(|instance| Some(instance.interface.clone())) else { continue };
        let same = kept.iter().copied().find(|&other| instances.get(other).map(|o| o.interface.clone()) == interface);
        match same {
            None => kept.push(member),
            Some(into) if into != member => {
                move_into(instances, member, into);
                joined += 1;
            }
            Some(_) => {}
        }
    }
    let (class, why) = match (kept.len(), joined) {
        (0, _) => (Class::Refused, "names no instance in a group { } block".to_owned()),
        (1, 0) => (Class::Ignored, "one member needs no group".to_owned()),
        (1, _) => (
            Class::Remark,
            "its members are one [[vip]] with the first one's vrid: change both nodes at once".to_owned(),
        ),
        (several, _) => {
            let why = "groups over several interfaces are not in this version: each [[vip]] moves by itself when its own link fails";
            (Class::Refused, format!("{why}; its members are {several} of them now"))
        }
    };
    findings.add(block, class, why);
}

fn move_into(instances: &mut [Instance], from: usize, into: usize) {
    let Some(source) = instances.get_mut(from) else { return };
    let (name, vrid) = (source.name.clone(), source.vrid);
    source.is_joined = true;
    let addresses = std::mem::take(&mut source.addresses);
    let notes = std::mem::take(&mut source.notes);
    let Some(target) = instances.get_mut(into) else { return };
    let was = vrid.filter(|vrid| Some(*vrid) != target.vrid).map(|vrid| format!(", which had vrid {vrid}"));
    target.notes.push(format!("With the addresses of {name}{}: they move together.", was.unwrap_or_default()));
    for note in notes {
        if !target.notes.contains(&note) {
            target.notes.push(note);
        }
    }
    target.addresses.extend(addresses);
}
