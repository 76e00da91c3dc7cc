//! The built binary from outside: what it prints where, and how it exits.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lyre-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `lyre` with a clean environment.
fn lyre(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyre"));
    command.args(arguments).env_clear().env("LYRE_CONFIG", "/nowhere/lyre.toml");
    command
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const GOOD: &str = r#"
[nextcloud]
hosts = ["cloud.example.com"]
servers = ["192.0.2.21:80"]

[[listener]]
address = "127.0.0.1:8080"
kind = "http"

[worker]
cores = 1

[admin]
socket = "lyre.sock"
"#;

#[test]
fn check_of_a_good_file_says_what_it_amounts_to() {
    let directory = Directory::new();
    let config = directory.write("lyre.toml", GOOD);
    let output = lyre(&["check", "--config", text(&config)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let expected = format!(
        "\
listen   127.0.0.1:8080 http
route    cloud.example.com / to web
pool     web: 192.0.2.21:80; 64 requests each, checked by /status.php of cloud.example.com every 2s
worker   1 core
admin    {0}/lyre.sock
{0}/lyre.toml: ok
",
        text(&directory.0)
    );
    assert_eq!(out(&output), expected);
    assert_eq!(err(&output), "");
}

#[test]
fn check_of_a_bad_file_prints_every_problem_and_fails() {
    let directory = Directory::new();
    let bad = GOOD.replace("cores = 1", "cores = 0\ncoers = 1").replace(":80\"", "\"");
    let config = directory.write("lyre.toml", &bad);
    let output = lyre(&["check"]).env("LYRE_CONFIG", &config).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = out(&output);
    let at = |line: usize, column: usize| format!("error: {}:{line}:{column}: ", config.display());
    assert!(shown.contains(&format!("{}nextcloud.servers[0]: \"192.0.2.21\" has no port.", at(4, 12))), "{shown}");
    assert!(shown.contains(&format!("{}worker.cores: 0 is not 1..255.", at(11, 9))), "{shown}");
    assert!(shown.contains(&format!("{}worker.coers: unknown key. Did you mean cores?", at(12, 1))), "{shown}");
    assert!(shown.ends_with("lyre.toml: not usable, 3 errors\n"), "{shown}");
    assert!(!shown.contains('\x1b'), "colours into a pipe");
}

#[test]
fn check_as_json_is_for_scripts() {
    let directory = Directory::new();
    let config = directory.write("lyre.toml", &GOOD.replace("cores = 1", "cores = 0"));
    let output = lyre(&["check", "--json", "--config", text(&config)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["errors"][0]["key"], "worker.cores");
    assert_eq!(report["errors"][0]["line"], 11);
    let config = directory.write("good.toml", GOOD);
    let output = lyre(&["check", "--json", "--config", text(&config)]).output().unwrap();
    let report: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&report["ok"], &report["effective"]["cores"]), (&true.into(), &1.into()));
}

#[test]
fn run_with_a_bad_file_starts_nothing_and_says_why() {
    let directory = Directory::new();
    let config = directory.write("lyre.toml", &GOOD.replace("192.0.2.21:80", "").replace("cores = 1", "cores = 0"));
    let output = lyre(&["run", "--config", text(&config)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "");
    assert_eq!(err(&output).matches("error: ").count(), 2, "{}", err(&output));
    assert!(!directory.0.join("lyre.sock").exists());
}

#[test]
fn keygen_writes_a_private_file_once() {
    let directory = Directory::new();
    let path = directory.0.join("cluster.key");
    let output = lyre(&["keygen", "--out", text(&path)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let secret = std::fs::read_to_string(&path).unwrap();
    assert_eq!(secret.len(), 65, "32 bytes in hexadecimal and a newline");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let output = lyre(&["keygen", "--out", text(&path)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("is there already"), "{}", err(&output));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), secret, "untouched");

    let printed = out(&lyre(&["keygen"]).output().unwrap());
    assert!(printed.len() == 65 && printed != secret, "another one each time");
}

#[test]
fn exapp_cert_makes_the_files_of_tunnels_once_and_what_an_engines_host_needs() {
    let directory = Directory::new();
    let (files, host) = (directory.0.join("frp"), directory.0.join("host"));
    let made = lyre(&["exapp", "cert", text(&files), "--days", "100"]).output().unwrap();
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(
        err(&made).contains(": made\n") && err(&made).contains("server.crt is good for 100 days"),
        "{}",
        err(&made)
    );
    let more = ["--engine", "24001", "--server", "edge.example.com:8782", "--out", text(&host)];
    let kept = lyre(&[&["exapp", "cert", text(&files)][..], &more].concat()).output().unwrap();
    assert!(kept.status.success() && err(&kept).contains(": kept as they are\n"), "{}", err(&kept));
    for name in ["ca.crt", "client.crt", "client.key"] {
        assert_eq!(std::fs::read(host.join(name)).unwrap(), std::fs::read(files.join(name)).unwrap(), "{name}");
    }
    assert!(!host.join("ca.key").exists());
    assert_eq!(std::fs::metadata(host.join("client.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let bad = ["--engine", "24001", "--server", "edge", "--out", text(&host)];
    let bad = lyre(&[&["exapp", "cert", text(&files)][..], &bad].concat()).output().unwrap();
    assert!(!bad.status.success() && err(&bad).contains("is no HOST:PORT"), "{}", err(&bad));

    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    for version in ["0.61.1", "0.70.1"] {
        let frpc = peers.join(format!("frpc-{version}"));
        if !frpc.exists() {
            println!("SKIPPED: frpc {version} is not asked about its configuration: {} is not there", frpc.display());
            continue;
        }
        let mut verify = Command::new(frpc);
        let verify = verify.args(["verify", "-c", "frpc.toml"]).env("HP_SHARED_KEY", "K").current_dir(&host);
        let output = verify.output().unwrap();
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
    }
}

#[test]
fn asking_where_no_lyre_runs_says_how_to_start_one() {
    let directory = Directory::new();
    let config = directory.write("lyre.toml", GOOD);
    for command in ["status", "failover", "reload", "drain", "metrics"] {
        let output = lyre(&[command, "--config", text(&config)]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{command}");
        let expected = format!("lyre: no lyre runs here: {}/lyre.sock does not answer. Start it", text(&directory.0));
        assert!(err(&output).starts_with(&expected), "{command}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
}

#[test]
fn wrong_arguments_exit_with_2_and_no_arguments_help() {
    for arguments in [&["chekc"][..], &["status", "--bogus"], &["demo", "--fault", "earthquake"]] {
        let output = lyre(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let help = out(&lyre(&["--help"]).output().unwrap());
    for word in ["run", "check", "demo", "status", "failover", "reload", "drain", "keygen", "completions"] {
        assert!(help.contains(&format!("\n  {word} ")), "{word} is missing in\n{help}");
    }
    assert!(help.contains("LYRE_CONFIG") && help.contains("Exit status") && !help.contains("\n  worker "), "{help}");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&lyre(&["completions", shell]).output().unwrap());
        assert!(script.contains("failover") && script.contains("keygen"), "{shell}");
    }
}

#[test]
fn output_into_a_closed_pipe_is_no_failure() {
    let mut child = lyre(&["completions", "bash"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Answers one request on an admin socket; gives the request line.
fn answer_once(socket: PathBuf, answer: String) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let length = stream.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..length]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
    })
}

fn ask(arguments: &[&str], status: &str, body: &str) -> (String, Output) {
    let directory = Directory::new();
    let socket = directory.0.join("lyre.sock");
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let server = answer_once(socket.clone(), answer);
    let output = lyre(&[arguments, &["--socket", text(&socket)]].concat()).output().unwrap();
    (server.join().unwrap(), output)
}

#[test]
fn orders_ask_for_what_they_say() {
    for (arguments, request) in [
        (&["reload"][..], "POST /v1/reload HTTP/1.1"),
        (&["drain"], "POST /v1/drain HTTP/1.1"),
        (&["drain", "--off"], "POST /v1/undrain HTTP/1.1"),
        (&["failover", "--resume"], "POST /v1/resume HTTP/1.1"),
    ] {
        let (asked, output) = ask(arguments, "200 OK", r#"{"message":"done"}"#);
        assert_eq!(asked, request);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "done\n"));
    }
}

#[test]
fn a_refused_reload_prints_every_problem_and_fails() {
    let body = r#"{"message":"nothing changed","errors":["lyre.toml:1:1: one","lyre.toml:2:1: two"]}"#;
    let (_, output) = ask(&["reload"], "422 Unprocessable Content", body);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "lyre.toml:1:1: one\nlyre.toml:2:1: two\nlyre: nothing changed\n");
}

#[test]
fn a_failover_succeeds_only_when_the_addresses_moved() {
    let body = |moved: bool| {
        format!(
            r#"{{"moved":{moved},"release_ms":1.25,"total_ms":12.0,"message":"text",
                "holders":[{{"router":"vip1-v4","holder":"192.0.2.12"}}]}}"#
        )
    };
    let (asked, output) = ask(&["failover"], "200 OK", &body(true));
    assert_eq!(asked, "POST /v1/failover HTTP/1.1");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let expected = "vip1-v4: held by 192.0.2.12\ntext, the peer answered 1.2 ms after the release (12.0 ms in all)\n";
    assert_eq!(out(&output), expected);
    let (_, output) = ask(&["failover"], "200 OK", &body(false));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn metrics_pass_as_they_are() {
    let (asked, output) = ask(&["metrics"], "200 OK", "lyre_up 1\n");
    assert_eq!((asked.as_str(), out(&output).as_str()), ("GET /metrics HTTP/1.1", "lyre_up 1\n"));
}

#[test]
fn an_answer_cut_short_is_a_failure() {
    let directory = Directory::new();
    let socket = directory.0.join("lyre.sock");
    let server = answer_once(socket.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned());
    let output = lyre(&["status", "--json", "--socket", text(&socket)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("did not give a whole HTTP answer"), "{}", err(&output));
    server.join().unwrap();
}
