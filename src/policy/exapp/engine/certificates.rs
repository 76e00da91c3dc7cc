//! Certificates into a container: the files of its tunnel, and the authorities that its Nextcloud is known by.
//!
//! HaRP runs `cat` and `mkdir` in the container, so an image without a shell gets nothing, and it starts the app once
//! without the files of its tunnel. Here files come and go as archives, which works on stopped containers and makes the
//! directories that miss; only the system's own list of authorities has to be made anew by a command in the container.

use super::tar::{self, Entry};
use super::{Call, Next, Steps, done, not_found, parse, text_at};
use crate::policy::exapp::control::Names;
use crate::policy::exapp::reply::Reply;
use serde_json::{Value, json};

/// The files that let a tunnel in, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct FrpFiles {
    pub ca_cert: Vec<u8>,
    pub client_cert: Vec<u8>,
    pub client_key: Vec<u8>,
}

/// Where a distribution keeps authorities that were added, and what makes its list of them.
struct Family {
    directory: &'static str,
    update: &'static [&'static str],
}

const DEBIAN: Family = Family { directory: "usr/local/share/ca-certificates", update: &["update-ca-certificates"] };
const FEDORA: Family = Family { directory: "etc/pki/ca-trust/source/anchors", update: &["update-ca-trust", "extract"] };

impl Family {
    /// By the text of its os-release.
    fn of(os_release: &[u8]) -> Option<Family> {
        let text = String::from_utf8_lossy(os_release).to_lowercase();
        let names = |list: &[&str]| list.iter().any(|name| text.contains(name));
        if names(&["alpine", "debian", "ubuntu"]) {
            return Some(DEBIAN);
        }
        names(&["centos", "almalinux", "rhel", "fedora"]).then_some(FEDORA)
    }
}

enum Step {
    Inspect,
    UploadFrp,
    OsRelease,
    /// Where a link at the usual place leads.
    OsReleaseOfVendor,
    UploadAuthorities(Family),
    Start(Family),
    MakeExec,
    Exec(String),
    ExitCode,
    Stop,
}

pub(super) struct Installation {
    names: Names,
    bundle: Vec<String>,
    frp: Option<FrpFiles>,
    was_running: bool,
    step: Step,
    notes: Vec<String>,
}

impl Installation {
    pub(super) fn new(names: Names, bundle: Option<String>, frp: Option<FrpFiles>) -> Installation {
        let bundle = bundle.map(|text| certificates(&text)).unwrap_or_default();
        Installation { names, bundle, frp, was_running: false, step: Step::Inspect, notes: Vec::new() }
    }

    fn go(&mut self, step: Step, call: Call) -> Next {
        self.step = step;
        Next::Call(call)
    }

    fn path(&self, rest: &str) -> String {
        format!("/containers/{}/{rest}", self.names.container)
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn inspected(&mut self, body: &[u8]) -> Next {
        self.was_running = parse(body).pointer("/State/Running").and_then(Value::as_bool).unwrap_or(false);
        let Some(files) = self.frp.take() else { return self.look_for_family() };
        let archive = tar::write([
            ("certs/frp/ca.crt", &*files.ca_cert),
            ("certs/frp/client.crt", &*files.client_cert),
            ("certs/frp/client.key", &*files.client_key),
        ]);
        let path = self.path("archive?path=/");
        self.go(Step::UploadFrp, Call::put_tar(path, archive))
    }

    fn look_for_family(&mut self) -> Next {
        if self.bundle.is_empty() {
            return Next::Done(Reply::empty());
        }
        let path = self.path("archive?path=/etc/os-release");
        self.go(Step::OsRelease, Call::get(path))
    }

    fn os_release(&mut self, status: u16, body: &[u8], may_be_elsewhere: bool) -> Next {
        let text = match tar::first(body).filter(|_| status == 200) {
            Some(Entry::File(text)) => text,
            Some(Entry::Other) | None if may_be_elsewhere => {
                let path = self.path("archive?path=/usr/lib/os-release");
                return self.go(Step::OsReleaseOfVendor, Call::get(path));
            }
            Some(Entry::Other) | None => &[],
        };
        let Some(family) = Family::of(text) else {
            self.note("authorities not installed: the container's distribution is not known");
            return Next::Done(Reply::empty());
        };
        let files: Vec<_> = std::mem::take(&mut self.bundle)
            .into_iter()
            .enumerate()
            .map(|(at, text)| (format!("{}/custom_ca_cert_{at}.crt", family.directory), text))
            .collect();
        let archive = tar::write(files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())));
        let path = self.path("archive?path=/");
        self.go(Step::UploadAuthorities(family), Call::put_tar(path, archive))
    }

    fn make_exec(&mut self, family: &Family) -> Next {
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": family.update });
        let path = self.path("exec");
        self.go(Step::MakeExec, Call::post_json(&path, &body))
    }

    /// Leaves the container as it was.
    fn finish(&mut self) -> Next {
        if self.was_running {
            return Next::Done(Reply::empty());
        }
        let path = self.path("stop");
        self.go(Step::Stop, Call::post(path))
    }
}

impl Steps for Installation {
    fn begin(&mut self) -> Next {
        Next::Call(Call::get(self.path("json")))
    }

    fn heard(&mut self, status: u16, body: &[u8]) -> Next {
        match (std::mem::replace(&mut self.step, Step::Inspect), status) {
            (Step::Inspect, 200) => self.inspected(body),
            (Step::Inspect, 404) => not_found(&self.names.container),
            (Step::Inspect, _) => done(503, format!("Failed to inspect container: Status {status}")),
            (Step::UploadFrp, 200) => self.look_for_family(),
            (Step::UploadFrp, _) => done(503, format!("Failed to upload archive: Status {status}")),
            (Step::OsRelease, _) => self.os_release(status, body, true),
            (Step::OsReleaseOfVendor, _) => self.os_release(status, body, false),
            (Step::UploadAuthorities(family), 200) if self.was_running => self.make_exec(&family),
            (Step::UploadAuthorities(family), 200) => {
                let path = self.path("start");
                self.go(Step::Start(family), Call::post(path))
            }
            (Step::UploadAuthorities(_), _) => done(503, format!("Failed to upload archive: Status {status}")),
            (Step::Start(family), 204 | 304) => self.make_exec(&family),
            (Step::Start(_), _) => done(503, format!("Failed to start container: Status {status}")),
            (Step::MakeExec, 201) => match text_at(&parse(body), "/Id").filter(|id| super::super::control::is_name(id))
            {
                Some(id) => {
                    let call = Call::post_json(&format!("/exec/{id}/start"), &json!({ "Detach": false, "Tty": false }));
                    self.go(Step::Exec(id.to_owned()), call)
                }
                None => self.finish(),
            },
            // Such an image has no command to do it. Its authorities are its own affair.
            (Step::MakeExec, _) => {
                self.note(format!("list of authorities not made anew: status {status} for the command"));
                self.finish()
            }
            (Step::Exec(id), 200) => self.go(Step::ExitCode, Call::get(format!("/exec/{id}/json"))),
            (Step::Exec(_), _) => {
                self.note(format!("list of authorities not made anew: status {status} from the command"));
                self.finish()
            }
            (Step::ExitCode, _) => {
                let code = parse(body).get("ExitCode").and_then(Value::as_i64);
                if code != Some(0) {
                    self.note(format!("list of authorities not made anew: exit code {code:?}"));
                }
                self.finish()
            }
            (Step::Stop, 204 | 304 | 404) => Next::Done(Reply::empty()),
            (Step::Stop, _) => {
                self.note(format!("container not stopped again: status {status}"));
                Next::Done(Reply::empty())
            }
        }
    }

    fn activity(&self) -> &'static str {
        "certificate installation"
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Each certificate of a bundle.
fn certificates(bundle: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let whole = |part: &str| part.split_once(END).map(|(inside, _)| format!("{BEGIN}{inside}{END}\n"));
    bundle.split(BEGIN).skip(1).filter_map(whole).collect()
}
