//! The command line. The only room that prints.
//!
//! Reading order: this file (what can be typed), [`run`], [`check`], [`client`] (asking a running lyre), [`status`]
//! (what it answers, for people), [`orders`], [`bans`], [`exapp`], [`exapp_cert`], [`keygen`], [`import`].

mod bans;
mod check;
mod client;
mod diff;
mod doctor;
mod events;
mod exapp;
mod exapp_cert;
mod import;
mod keygen;
mod orders;
mod output;
mod run;
mod status;

use clap::{CommandFactory as _, Parser, Subcommand};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What went wrong, told on stderr already.
pub const FAILED: u8 = 1;
/// No lyre answers on the admin socket. 2 is clap's, for arguments it does not understand.
pub const NOT_RUNNING: u8 = 3;

const CONFIG_DEFAULT: &str = "/etc/lyre/lyre.toml";

const ABOUT: &str = "High-availability edge for Nextcloud: two nodes, one virtual IP, a balanced web tier behind it";

const AFTER: &str = "\
Examples:
  lyre demo                       watch a whole pair fail over on this machine
  lyre check                      say what is wrong with /etc/lyre/lyre.toml, all of it
  lyre run                        serve (the systemd unit does this)
  lyre status --watch             who holds the address, and how the servers do
  lyre failover                   hand the address to the other node, losing no request

Files:
  /etc/lyre/lyre.toml             configuration, the same on both nodes
  /run/lyre/lyre.sock             admin socket ($XDG_RUNTIME_DIR/lyre/lyre.sock without root)

Environment:
  LYRE_CONFIG                     configuration file instead of /etc/lyre/lyre.toml
  LYRE_LOG                        error, warn, info or debug; overrules log.level
  NO_COLOR                        no colours, also on a terminal

Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong arguments, 3 no lyre runs here.";

#[derive(Parser)]
#[command(name = "lyre", version, about = ABOUT, after_help = AFTER, max_term_width = 110, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: proxy, virtual addresses, admin socket; ends with SIGTERM, reloads with SIGHUP
    Run(ConfigOptions),
    /// Read the configuration and print every problem, or what it amounts to
    Check {
        #[command(flatten)]
        config: ConfigOptions,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Print what a reload would change in the lyre that runs with this file
        #[arg(long)]
        diff: bool,
    },
    /// Run a whole pair in network namespaces of this machine, break it in turn, print what each fault cost
    Demo(crate::demo::Options),
    /// Show who holds which address, the worker, the pools and their servers
    Status {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print the JSON that the admin socket answers
        #[arg(long)]
        json: bool,
        /// Show again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Tell what happens as it happens: transitions, trackers, alarms; until Ctrl-C
    Events {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Hand every virtual address to the other node, as planned: it keeps answering until the peer does
    #[command(
        after_help = "Afterwards this node is the other one's Backup. With preempt set it would take the addresses straight \
                      back, so it then waits for lyre failover --resume."
    )]
    Failover {
        #[command(flatten)]
        socket: SocketOptions,
        /// Take part again after a hand-over
        #[arg(long)]
        resume: bool,
        /// Print the JSON that the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again; one that has problems changes nothing and they are printed
    Reload(SocketOptions),
    /// Close client connections as they become idle; requests that run are finished
    Drain {
        #[command(flatten)]
        socket: SocketOptions,
        /// Serve as usual again
        #[arg(long)]
        off: bool,
    },
    /// Keep a client out, over all its connections; IPv6 addresses with their whole /64
    #[command(after_help = "Trusted proxies, servers and this host are never banned. Bans are this node's own.")]
    Ban {
        #[command(flatten)]
        socket: SocketOptions,
        /// The client's address, as the access log has it
        #[arg(value_name = "ADDRESS")]
        address: IpAddr,
        /// How long, as in 10m, 1h or 7d [default: until lyre unban]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        length: Option<Duration>,
        /// Print the JSON that the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Let a client in again, and forget its failed logins
    Unban {
        #[command(flatten)]
        socket: SocketOptions,
        #[arg(value_name = "ADDRESS")]
        address: IpAddr,
        /// Print the JSON that the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Show who is banned, why, and for how long
    Bans {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print the JSON that the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Look at the apps behind the gateway, and at their tunnels
    Exapp {
        #[command(subcommand)]
        what: ExappCommand,
    },
    /// Print the metrics in Prometheus' text format
    Metrics(SocketOptions),
    /// Make a cluster secret: 256 random bits as one line of hexadecimal digits
    Keygen {
        /// Write it to this new file, readable only by its owner, instead of printing it
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Find out why something does not work, and say what to do
    Doctor {
        #[command(subcommand)]
        about: DoctorAbout,
    },
    /// Print lyre.toml for the configuration of another program
    Import {
        #[command(subcommand)]
        from: ImportFrom,
    },
    /// Print the completion script of a shell
    #[command(after_help = "Example: lyre completions bash > /usr/share/bash-completion/completions/lyre")]
    Completions {
        #[arg(value_name = "SHELL", value_enum)]
        shell: clap_complete::Shell,
    },
    /// The unprivileged process that `lyre run` starts
    #[command(hide = true)]
    Worker {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        orders: Vec<OsString>,
    },
}

#[derive(Subcommand)]
enum ExappCommand {
    /// Show the apps that were asked for, their tunnels, who was refused and who is banned
    List {
        #[command(flatten)]
        socket: SocketOptions,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of one app
    Show {
        #[command(flatten)]
        socket: SocketOptions,
        #[arg(value_name = "APP")]
        app: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make the certificates of ExApps' tunnels, or take over HaRP's and renew the server's in its last thirty days
    #[command(
        after_help = "Both nodes need the same directory. Run it daily, then lyre reload: clients notice nothing."
    )]
    Cert {
        /// ca, server and client, each with .crt and .key
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
        /// What is made is good for so long
        #[arg(long, value_name = "DAYS", default_value_t = crate::control::frp_files::DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Also write what the host of a container engine needs, which is to have this port
        #[arg(long, value_name = "PORT", requires_all = ["server", "out"], value_parser = clap::value_parser!(u16).range(24_001..=24_099))]
        engine: Option<u16>,
        /// Where that host reaches the tunnels' port
        #[arg(long, value_name = "HOST:PORT", requires = "engine")]
        server: Option<String>,
        /// Write the host's files and frpc.toml into this directory
        #[arg(long, value_name = "DIRECTORY", requires = "engine")]
        out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum DoctorAbout {
    /// Why two nodes do not pair: listens to the LAN, looks at this host, changes nothing
    #[command(
        after_help = "Run it as root, on both nodes, while lyre runs. Exit status: 0 nothing failed, 1 something did."
    )]
    Vrrp {
        #[command(flatten)]
        config: ConfigOptions,
        /// Admin socket of the lyre that runs here [default: admin.socket of the configuration]
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Listen for this long, as in 10s [default: four advert intervals, at least 4s]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        wait: Option<Duration>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

const IMPORT_AFTER: &str = "Exit status: 0 all is carried over, 1 the file cannot be read, 2 something is refused or not \
                            understood; the summary at the end of the output says what and why.";

#[derive(Subcommand)]
enum ImportFrom {
    /// haproxy.cfg: frontends, backends and listens, of requests and of TCP
    #[command(after_help = IMPORT_AFTER)]
    Haproxy {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// keepalived.conf, with all it includes
    #[command(after_help = IMPORT_AFTER)]
    Keepalived {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Be this host where the file has @NAME lines, as with keepalived's -i [default: the host name]
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
    },
    /// nginx.conf or one of its sites, with all it includes, where nginx is a proxy
    #[command(after_help = IMPORT_AFTER)]
    Nginx {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct ConfigOptions {
    /// Configuration file [default: $LYRE_CONFIG or /etc/lyre/lyre.toml]
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Be this node of the cluster, instead of the one whose address this host has
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(clap::Args)]
struct SocketOptions {
    /// Admin socket [default: admin.socket of the configuration]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file that names the socket [default: $LYRE_CONFIG or /etc/lyre/lyre.toml]
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(config) => run::run(&config.path(), config.node.as_deref()),
        Command::Check { config, json, diff: false } => check::run(&config.path(), config.node.as_deref(), json),
        Command::Check { config, json, diff: true } => {
            let path = config.path();
            let client = SocketOptions { socket: None, config: Some(path.clone()) }.client();
            diff::run(&path, config.node.as_deref(), &client, json)
        }
        Command::Demo(options) => demo(options),
        Command::Status { socket, json, watch } => status::run(&socket.client(), json, watch),
        Command::Events { socket, json } => events::run(&socket.client(), json),
        Command::Failover { socket, resume: false, json } => orders::failover(&socket.client(), json),
        Command::Failover { socket, resume: true, json } => orders::order(&socket.client(), "/v1/resume", json),
        Command::Reload(socket) => orders::order(&socket.client(), "/v1/reload", false),
        Command::Drain { socket, off: false } => orders::order(&socket.client(), "/v1/drain", false),
        Command::Drain { socket, off: true } => orders::order(&socket.client(), "/v1/undrain", false),
        Command::Ban { socket, address, length, json } => bans::ban(&socket.client(), address, length, json),
        Command::Unban { socket, address, json } => bans::unban(&socket.client(), address, json),
        Command::Bans { socket, json } => bans::list(&socket.client(), json),
        Command::Exapp { what: ExappCommand::List { socket, json } } => exapp::list(&socket.client(), json),
        Command::Exapp { what: ExappCommand::Show { socket, app, json } } => exapp::show(&socket.client(), &app, json),
        Command::Metrics(socket) => orders::metrics(&socket.client()),
        Command::Keygen { out } => keygen::run(out.as_deref()),
        Command::Exapp { what: ExappCommand::Cert { directory, days, engine, server, out } } => {
            let all = engine.zip(server).zip(out);
            let engine = all.map(|((port, server), out)| exapp_cert::Engine { port, server, out });
            exapp_cert::cert(&directory, days, engine)
        }
        Command::Doctor { about: DoctorAbout::Vrrp { config, socket, wait, json } } => {
            let path = config.path();
            let client = SocketOptions { socket, config: Some(path.clone()) }.client();
            doctor::vrrp(&path, config.node.as_deref(), &client, wait, json)
        }
        Command::Import { from: ImportFrom::Haproxy { file } } => import::haproxy(&file),
        Command::Import { from: ImportFrom::Nginx { file } } => import::nginx(&file),
        Command::Import { from: ImportFrom::Keepalived { file, host } } => import::keepalived(&file, host),
        Command::Completions { shell } => completions(shell),
        Command::Worker { orders } => run::worker(&orders),
    }
}

impl ConfigOptions {
    fn path(&self) -> PathBuf {
        config_path(self.config.as_ref())
    }
}

impl SocketOptions {
    fn client(&self) -> client::Client {
        let from_config = || crate::config::admin_socket(&config_path(self.config.as_ref()));
        client::Client::new(self.socket.clone().unwrap_or_else(from_config))
    }
}

fn config_path(typed: Option<&PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os("LYRE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    typed.cloned().or_else(from_environment).unwrap_or_else(|| CONFIG_DEFAULT.into())
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::units::duration(text).map_err(|_| "wants a number and a unit, as in 10s or 500ms".to_owned())
}

fn demo(options: crate::demo::Options) -> ExitCode {
    match crate::demo::run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => output::fail(&error),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lyre", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
