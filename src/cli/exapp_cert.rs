//! `lyre exapp cert`: the files of ExApps' tunnels, and what the host of a container engine needs of them.

use super::output;
use crate::control::clock;
use crate::control::frp_files::{self, FrpFilesError, Outcome};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// For a host with a container engine.
pub(super) struct Engine {
    pub(super) port: u16,
    /// Where its frpc finds Lyre.
    pub(super) server: String,
    pub(super) out: PathBuf,
}

#[derive(Debug)]
enum ExappError {
    Files(FrpFilesError),
    Server(String),
    Write { path: PathBuf, error: io::Error },
}

pub(super) fn cert(directory: &Path, days: u32, engine: Option<Engine>) -> ExitCode {
    match prepare(directory, days).and_then(|()| engine.map_or(Ok(()), |engine| equip(directory, &engine))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}

fn prepare(directory: &Path, days: u32) -> Result<(), ExappError> {
    let now = Duration::from_millis(clock::unix_ms());
    let outcome = frp_files::prepare(directory, days, now).map_err(ExappError::Files)?;
    let what = match outcome {
        Outcome::Made => "made",
        Outcome::Kept => "kept as they are",
        Outcome::Renewed => "kept, with a new leaf for the server",
    };
    output::note(format_args!("certificates of tunnels in {}: {what}", directory.display()));
    for name in ["ca.crt", "server.crt", "client.crt"] {
        let end = frp_files::not_after(&directory.join(name)).map_err(ExappError::Files)?;
        let days = (end - now.as_secs() as i64).div_euclid(86_400);
        output::note(match days {
            ..0 => format!("  {name} has expired"),
            days => format!("  {name} is good for {days} days"),
        });
    }
    Ok(())
}

/// The files that frpc beside an engine needs, and its configuration.
fn equip(directory: &Path, engine: &Engine) -> Result<(), ExappError> {
    let (host, port) = split(&engine.server).ok_or_else(|| ExappError::Server(engine.server.clone()))?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| ExappError::Write { path, error }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&engine.out).map_err(at(&engine.out))?;
    for name in ["ca.crt", "client.crt", "client.key"] {
        let content = fs::read(directory.join(name)).map_err(at(&directory.join(name)))?;
        write(&engine.out.join(name), &content)?;
    }
    let path = engine.out.join("frpc.toml");
    write(&path, frpc(host, port, engine.port).as_bytes())?;
    output::note(format_args!(
        "copy {} to the engine's host, over a safe channel; there: HP_SHARED_KEY=… frpc -c frpc.toml",
        engine.out.display()
    ));
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<(), ExappError> {
    let failed = |error| ExappError::Write { path: path.to_owned(), error };
    let mut file =
        fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).map_err(failed)
}

/// `HOST:PORT`, `[IPV6]:PORT`; of characters that need no quotes.
fn split(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte));
    (is_plain && !host.is_empty()).then_some((host, port.parse().ok().filter(|port| *port != 0)?))
}

/// The key is not in it: frpc takes it from its environment.
fn frpc(host: &str, port: u16, engine: u16) -> String {
    format!(
        "# Made by lyre exapp cert. Gives Lyre the Docker Engine of this host, as daemon port {engine}.\n\
         serverAddr = \"{host}\"\nserverPort = {port}\nloginFailExit = false\n\n\
         transport.tls.enable = true\ntransport.tls.certFile = \"client.crt\"\n\
         transport.tls.keyFile = \"client.key\"\ntransport.tls.trustedCaFile = \"ca.crt\"\n\
         transport.tls.serverName = \"{}\"\n\nmetadatas.token = \"{{{{ .Envs.HP_SHARED_KEY }}}}\"\n\n\
         [[proxies]]\nname = \"deploy-daemon-{engine}\"\ntype = \"tcp\"\nremotePort = {engine}\n\n\
         [proxies.plugin]\ntype = \"unix_domain_socket\"\nunixPath = \"/var/run/docker.sock\"\n",
        frp_files::issue::SERVER
    )
}

impl fmt::Display for ExappError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExappError::Files(error) => write!(f, "{error}"),
            ExappError::Server(server) => write!(f, "{server:?} is no HOST:PORT; the port of tunnels is mostly 8782"),
            ExappError::Write { path, .. } => write!(f, "cannot write {}", path.display()),
        }
    }
}

impl std::error::Error for ExappError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ExappError::Write { error, .. } => Some(error),
            ExappError::Files(_) | ExappError::Server(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_a_port() {
        assert_eq!(split("edge.example.com:8782"), Some(("edge.example.com", 8782)));
        assert_eq!(split("[2001:db8::1]:8782"), Some(("2001:db8::1", 8782)));
        for bad in ["edge.example.com", ":8782", "a:0", "a:b", "a\":1", "a\n:1"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
