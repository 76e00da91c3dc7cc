//! `[[notify]]`: who is told when a virtual router changes its state.

use super::track::{absolute, command};
use super::{Context, vips, worker};
use crate::config::file::{Item, Section};
use crate::config::settings::VirtualRouter;
use crate::config::settings::track::{About, Command, Hook, Removal};
use std::time::Duration;

const HOOKS_MAX: usize = 64;

pub(super) fn read(c: &mut Context, sections: Vec<Section>, routers: &[VirtualRouter]) -> Vec<Hook> {
    if let Some(section) = sections.get(HOOKS_MAX) {
        let place = section.place.clone();
        c.f.error(&place, format!("there are more than {HOOKS_MAX} of these"), "");
    }
    sections.into_iter().map(|section| hook(c, section, routers)).collect()
}

fn hook(c: &mut Context, mut section: Section, routers: &[VirtualRouter]) -> Hook {
    let about = about(c, &mut section, routers);
    let mut script = |c: &mut Context, key: &'static str| -> Option<Command> {
        section.optional(key).and_then(|item| command(c, &item))
    };
    let [any, active, backup, fault, stop, contested, fifo_script] =
        ["any", "active", "backup", "fault", "stop", "contested", "fifo_script"].map(|key| script(c, key));
    let fifo = section.optional("fifo").and_then(|item| item.text(&mut c.f)).map(|path| absolute(c, path));
    let removal = section.optional("deleted").map_or(Removal::Stop, |item| removal(c, &item, &about));
    let has_priority_changes =
        section.optional("priority_changes").and_then(|item| item.flag(&mut c.f)).unwrap_or_default();
    let user = section.optional("user").and_then(|item| worker::user(c, &item));
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let timeout = section.duration(&mut c.f, "timeout", range, Duration::from_secs(30));
    let place = section.place.clone();
    section.finish(&mut c.f);
    let scripts = [&any, &active, &backup, &fault, &stop, &contested];
    let has_script = scripts.iter().any(|script| script.is_some()) || matches!(removal, Removal::Deleted(Some(_)));
    if !has_script && fifo.is_none() && !c.f.has_errors() {
        c.f.error(&place, "nobody is told", "Add any = \"/path/of/a/script\", or fifo.");
    }
    if fifo_script.is_some() && fifo.is_none() && !c.f.has_errors() {
        c.f.error(&place, "fifo_script has nothing to read", "Add fifo = \"/run/lyre/events\".");
    }
    if has_priority_changes && fifo.is_none() && !c.f.has_errors() {
        c.f.error(&place, "priority_changes are told to a FIFO only", "Add fifo, or remove the line.");
    }
    Hook {
        about,
        any,
        active,
        backup,
        fault,
        stop,
        contested,
        fifo,
        fifo_script,
        removal,
        has_priority_changes,
        user,
        timeout,
    }
}

/// True, or a script; a group has no word for it.
fn removal(c: &mut Context, item: &Item, about: &About) -> Removal {
    if matches!(about, About::Groups(_)) {
        item.error(
            &mut c.f,
            "a sync group that is removed stops",
            "Remove it, or write it into a [[notify]] of routers.",
        );
    }
    match item.is_flag() {
        true if item.flag(&mut c.f) == Some(true) => Removal::Deleted(None),
        true => Removal::Stop,
        false => Removal::Deleted(command(c, item)),
    }
}

fn about(c: &mut Context, section: &mut Section, routers: &[VirtualRouter]) -> About {
    let named = vips::written(c, section, routers);
    let Some(item) = section.optional("sync_groups") else { return named.map_or(About::All, About::Routers) };
    if named.is_some() {
        item.error(&mut c.f, "vips and sync_groups do not go together", "Write two [[notify]], one for each.");
    }
    let mut known: Vec<&str> = routers.iter().filter_map(|router| router.sync_group.as_deref()).collect();
    known.sort_unstable();
    known.dedup();
    let mut groups = Vec::new();
    for item in item.filled_list(&mut c.f, "Write sync_groups = [\"name\"], or leave it out for all routers.") {
        let Some(name) = item.text(&mut c.f) else { continue };
        if !known.contains(&name) {
            let hint = match known.is_empty() {
                true => {
                    "Write the same sync_group into two [[vip]], or addresses of both families into one.".to_owned()
                }
                false => format!("There is {}.", known.join(", ")),
            };
            item.error(&mut c.f, format!("there is no sync group {name}"), hint);
        }
        groups.push(name.to_owned());
    }
    About::Groups(groups)
}
