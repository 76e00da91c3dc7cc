//! Files that the configuration names.

use super::Context;
use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::host::{FileContent, Private};
use crate::config::settings::Secret;
use std::io;
use std::path::{Path, PathBuf};

/// 128 bits of a key of which every byte counts; `lyre keygen` writes 256.
const SECRET_BYTES_MIN: usize = 16;

/// Content of the file that `item` names; never empty.
pub(super) fn content(c: &mut Context, item: &Item) -> Option<(PathBuf, FileContent)> {
    let typed = Path::new(item.text(&mut c.f)?);
    let path = c.base.join(typed);
    let read = c.host.read(typed);
    usable(c, item, &path, read).map(|file| (path, file))
}

fn usable(c: &mut Context, item: &Item, path: &Path, read: io::Result<FileContent>) -> Option<FileContent> {
    match read {
        Ok(file) if file.bytes.iter().all(u8::is_ascii_whitespace) => {
            item.error(&mut c.f, format!("{} is empty", path.display()), "");
            None
        }
        Ok(file) => Some(file),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "",
                io::ErrorKind::PermissionDenied => "Run as root, or give this account read access to it.",
                io::ErrorKind::FileTooLarge => "The limit is 1 MiB.",
                _ => "",
            };
            item.error(&mut c.f, format!("cannot read {}: {}", path.display(), describe(&error)), hint);
            None
        }
    }
}

/// `secret_file` or `secret_env`, exactly one of them.
pub(super) fn secret(c: &mut Context, section: &mut Section) -> Option<Secret> {
    let from_file = section.optional("secret_file");
    let from_environment = section.optional("secret_env");
    match (from_file, from_environment) {
        (Some(item), None) => {
            let (path, file) = content(c, &item)?;
            warn_if_public(c, &item, &path, &file);
            checked(c, &item, file.bytes.trim_ascii())
        }
        (None, Some(item)) => {
            let name = item.text(&mut c.f)?;
            match c.host.variable(name) {
                Some(value) => checked(c, &item, value.trim().as_bytes()),
                None => {
                    item.error(&mut c.f, format!("the environment has no variable {name}"), "");
                    None
                }
            }
        }
        (Some(_), Some(item)) => {
            item.error(&mut c.f, "there is a secret_file too", "Keep one of the two.");
            None
        }
        (None, None) => {
            let hint = "Run lyre keygen --out /etc/lyre/cluster.key once, copy the file to every node, and write \
                        secret_file = \"/etc/lyre/cluster.key\".";
            section.required(&mut c.f, "secret_file", hint);
            None
        }
    }
}

/// A secret that only the privileged process needs, from the file or the variable that one of the two keys names, and
/// the place of that key. The secret is missing where it is withheld from this process.
pub(super) fn private(
    c: &mut Context,
    section: &mut Section,
    file_key: &'static str,
    variable_key: &'static str,
) -> Option<(Place, Option<Secret>)> {
    match (section.optional(file_key), section.optional(variable_key)) {
        (Some(item), None) => {
            let typed = Path::new(item.text(&mut c.f)?);
            let path = c.base.join(typed);
            let read = match c.host.read_private(typed) {
                Ok(Private::Known(file)) => Ok(file),
                Ok(Private::Withheld) => return Some((item.place, None)),
                Err(error) => Err(error),
            };
            let file = usable(c, &item, &path, read)?;
            warn_if_public(c, &item, &path, &file);
            Some((item.place, Some(Secret(file.bytes.trim_ascii().into()))))
        }
        (None, Some(item)) => {
            let name = item.text(&mut c.f)?;
            match c.host.private_variable(name) {
                Some(Private::Withheld) => Some((item.place, None)),
                Some(Private::Known(value)) if !value.trim().is_empty() => {
                    Some((item.place, Some(Secret(value.trim().as_bytes().into()))))
                }
                Some(Private::Known(_)) | None => {
                    item.error(&mut c.f, format!("the environment has no variable {name}, or it is empty"), "");
                    None
                }
            }
        }
        (Some(_), Some(item)) => {
            item.error(&mut c.f, format!("there is a {file_key} too"), "Keep one of the two.");
            None
        }
        (None, None) => {
            section.required(&mut c.f, file_key, "Make it with lyre keygen, and copy it to every node.");
            None
        }
    }
}

pub(super) fn warn_if_public(c: &mut Context, item: &Item, path: &Path, file: &FileContent) {
    if file.is_public {
        let message = format!("every user of this machine can read {}", path.display());
        item.warning(&mut c.f, message, format!("Run chmod 600 {}.", path.display()));
    }
}

pub(super) fn checked(c: &mut Context, item: &Item, bytes: &[u8]) -> Option<Secret> {
    if bytes.len() < SECRET_BYTES_MIN {
        let message = format!("the secret has {} bytes, fewer than {SECRET_BYTES_MIN}", bytes.len());
        item.error(&mut c.f, message, "Make one with lyre keygen.");
        return None;
    }
    Some(Secret(bytes.into()))
}

/// The reason in plain words, without the number.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::FileTooLarge => "it is too large".to_owned(),
        _ => error.to_string(),
    }
}
