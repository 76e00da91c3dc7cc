//! `[exapps]`: the gateway to external apps, on the hosts of `[nextcloud]`.

use super::web::S;
use super::{Context, docker, files, frp};
use crate::config::file::Section;
use crate::config::settings::{CheckKind, ExApps, Listener, Pool, PoolKind, Secret, tcp};
use crate::config::shared_key::shared_key;
use std::time::Duration;

pub(super) fn read(
    c: &mut Context,
    root: &mut Section,
    pools: &[Pool],
    listeners: &[Listener],
    services: &[tcp::Service],
) -> Option<ExApps> {
    let item = root.optional("exapps")?;
    let mut section = item.section(&mut c.f)?;
    let shared_key = key(c, &mut section);
    let session_lifetime = section.duration(&mut c.f, "session_lifetime", Duration::ZERO..=10 * S, 3 * S);
    let docker = docker::read(c, &mut section);
    let frp = frp::read(c, &mut section, listeners, services);
    section.finish(&mut c.f);
    let web = pools.iter().enumerate().find_map(|(index, pool)| match &pool.check.kind {
        CheckKind::NextcloudStatus { host } if pool.kind == PoolKind::Nextcloud => Some((index, host.clone())),
        _ => None,
    });
    let Some((pool, host)) = web else {
        item.error(&mut c.f, "there is no [nextcloud]", "Its web servers are asked which apps there are; add it.");
        return None;
    };
    Some(ExApps { shared_key: shared_key?, pool, host, session_lifetime, frp, docker })
}

/// `shared_key_file` or `shared_key_env`, exactly one of them.
fn key(c: &mut Context, section: &mut Section) -> Option<Secret> {
    let from_file = section.optional("shared_key_file");
    let from_environment = section.optional("shared_key_env");
    let (item, raw) = match (from_file, from_environment) {
        (Some(item), None) => {
            let (path, file) = files::content(c, &item)?;
            files::warn_if_public(c, &item, &path, &file);
            (item, file.bytes.to_vec())
        }
        (None, Some(item)) => {
            let name = item.text(&mut c.f)?;
            let Some(value) = c.host.variable(name) else {
                item.error(&mut c.f, format!("the environment has no variable {name}"), "");
                return None;
            };
            (item, value.into_bytes())
        }
        (Some(_), Some(item)) => {
            item.error(&mut c.f, "there is a shared_key_file too", "Keep one of the two.");
            return None;
        }
        (None, None) => {
            let hint = "Write the key that the deploy daemon has in AppAPI's settings into a file, and \
                        shared_key_file = \"/etc/lyre/exapps.key\".";
            section.required(&mut c.f, "shared_key_file", hint);
            return None;
        }
    };
    shared_key(&raw).map_err(|bad| item.error(&mut c.f, bad.to_string(), "Write the same key as in AppAPI.")).ok()
}
