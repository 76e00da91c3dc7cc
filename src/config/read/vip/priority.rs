//! `priority` of this node: by its place in `cluster.nodes`, or as written.

use crate::config::file::{Item, Section};
use crate::config::read::{Context, cluster};
use crate::config::settings::Node;
use std::ops::RangeInclusive;

/// Below it, a priority says "I serve, but badly".
const RANGE: RangeInclusive<u64> = 10..=255;

pub(super) fn read(c: &mut Context, section: &mut Section, cluster: &Option<cluster::Read>) -> u8 {
    let item = section.optional("priority");
    match (cluster, item) {
        (Some(read), Some(item)) if item.is_table() => of_nodes(c, &item, read),
        (Some(_), Some(item)) => {
            let hint = "Remove it, or say it for each node: priority = { edge-a = 254, edge-b = 253 }.";
            item.error(&mut c.f, "the order of cluster.nodes decides the priority", hint);
            cluster::PRIORITY_FIRST
        }
        (Some(read), None) => of_this(read, &read.priorities),
        (None, None) => {
            let hint = "Add [cluster] with both nodes, or write priority = 254 here and 253 on the other node.";
            c.f.warning(&section.place, "without [cluster] and priority both nodes have the same rank", hint);
            cluster::PRIORITY_FIRST
        }
        (None, Some(item)) if item.is_table() => {
            item.error(&mut c.f, "names nodes, and there is no [cluster]", "Write priority = 254 here and 253 there.");
            cluster::PRIORITY_FIRST
        }
        (None, Some(item)) => whole(c, &item).unwrap_or(cluster::PRIORITY_FIRST),
    }
}

fn of_nodes(c: &mut Context, item: &Item, read: &cluster::Read) -> u8 {
    let nodes = read.cluster.nodes.as_slice();
    let mut priorities = read.priorities.clone();
    let entries = item.section(&mut c.f).map(Section::entries).unwrap_or_default();
    for (name, item) in &entries {
        let index = nodes.iter().position(|node| node.name == *name);
        let Some(place) = index.and_then(|index| priorities.get_mut(index)) else {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            item.error(&mut c.f, format!("cluster.nodes has no {name}"), format!("There is {}.", names.join(", ")));
            continue;
        };
        *place = whole(c, item).unwrap_or(*place);
    }
    if let Some((one, other)) = same(nodes, &priorities) {
        let message = format!("{} and {} have the same priority here", one.name, other.name);
        item.error(&mut c.f, message, "Give each node its own; those left out keep the one of cluster.nodes.");
    }
    of_this(read, &priorities)
}

fn same<'n>(nodes: &'n [Node], priorities: &[u8]) -> Option<(&'n Node, &'n Node)> {
    let all: Vec<(&Node, &u8)> = nodes.iter().zip(priorities).collect();
    all.iter().enumerate().find_map(|(at, (node, priority))| {
        let earlier = all.iter().take(at).find(|(_, other)| other == priority)?;
        Some((earlier.0, *node))
    })
}

fn whole(c: &mut Context, item: &Item) -> Option<u8> {
    item.whole(&mut c.f, RANGE).and_then(|value| u8::try_from(value).ok())
}

fn of_this(read: &cluster::Read, priorities: &[u8]) -> u8 {
    priorities.get(read.cluster.this).copied().unwrap_or(cluster::PRIORITY_FIRST)
}
