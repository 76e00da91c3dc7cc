//! `name` of a `[[vip]]`, and `sync_group`: who moves together.

use crate::config::file::{Item, Section};
use crate::config::names::is_given_name;
use crate::config::read::Context;
use crate::config::settings::VirtualRouter;

/// Kernel interfaces, log lines and file names are made from it.
const NAME_BYTES_MAX: usize = 32;

pub(super) enum Group<'a> {
    /// Not said: the families of one `[[vip]]` move together.
    Own,
    /// Each family for itself.
    Nobody,
    Named(Item<'a>, String),
}

impl Group<'_> {
    pub(super) fn of(&self, vip: &str, has_both_families: bool) -> Option<String> {
        match self {
            Group::Own => has_both_families.then(|| vip.to_owned()),
            Group::Nobody => None,
            Group::Named(_, name) => Some(name.clone()),
        }
    }
}

/// As written, or `vip1` for the first.
pub(super) fn name(c: &mut Context, section: &mut Section, index: usize, before: &mut Vec<String>) -> String {
    let default = format!("vip{}", index + 1);
    let item = section.optional("name");
    let name = item.as_ref().and_then(|item| given(c, item)).unwrap_or(default);
    if before.contains(&name) {
        let place = item.as_ref().map_or_else(|| section.place.clone(), |item| item.place.clone());
        c.f.error(&place, format!("another [[vip]] is named {name}"), "Give each its own name.");
    }
    before.push(name.clone());
    name
}

fn given(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    let has_suffix = [".", "-v4", "-v6"].iter().any(|suffix| name.ends_with(suffix));
    if !is_given_name(name) || name.len() > NAME_BYTES_MAX || has_suffix || name.bytes().all(|b| b.is_ascii_digit()) {
        let hint = format!(
            "Use 1 to {NAME_BYTES_MAX} letters, digits, hyphens, dots and underscores, not digits alone, and neither -v4 \
             nor -v6 at the end: those are added for the families."
        );
        item.error(&mut c.f, format!("{name:?} is no name of a [[vip]]"), hint);
        return None;
    }
    Some(name.to_owned())
}

pub(super) fn sync_group<'a>(c: &mut Context, section: &mut Section<'a>) -> Group<'a> {
    let Some(item) = section.optional("sync_group") else { return Group::Own };
    if item.is_flag() {
        return if item.flag(&mut c.f) == Some(true) { Group::Own } else { Group::Nobody };
    }
    let Some(name) = item.text(&mut c.f) else { return Group::Own };
    if !is_given_name(name) {
        let hint = "Use 1 to 63 letters, digits, hyphens, dots and underscores, a letter or digit first.";
        item.error(&mut c.f, format!("{name:?} is no name of a group"), hint);
        return Group::Own;
    }
    Group::Named(item.clone(), name.to_owned())
}

/// A group whose members cannot agree is better not started.
pub(super) fn check_groups(c: &mut Context, groups: &[Group], routers: &[VirtualRouter]) {
    let mut checked: Vec<&str> = Vec::new();
    for group in groups {
        let Group::Named(item, name) = group else { continue };
        if checked.contains(&name.as_str()) {
            continue;
        }
        checked.push(name);
        let members: Vec<&VirtualRouter> = routers.iter().filter(|r| r.sync_group.as_ref() == Some(name)).collect();
        if let [only] = members.as_slice() {
            let message = format!("{} is alone in sync group {name}", only.name);
            item.warning(&mut c.f, message, "Write the same sync_group into another [[vip]], or remove the line.");
        }
        let first = members.first();
        let differs = |member: &&&VirtualRouter| first.is_some_and(|first| first.priority != member.priority);
        if let (Some(first), Some(other)) = (first, members.iter().find(differs)) {
            let message = format!(
                "{} has priority {} in sync group {name} and {} has {}",
                first.name, first.priority, other.name, other.priority
            );
            item.error(&mut c.f, message, "Members move together, so one node must be preferred for all of them.");
        }
    }
}
