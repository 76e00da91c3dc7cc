//! The Debian package: made of the binary under test, installed, upgraded and purged by the real dpkg.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Not the debugger's part of the binary: compressing it would take most of the test.
struct Workshop(PathBuf);

impl Workshop {
    fn new(name: &str) -> Workshop {
        let path = std::env::temp_dir().join(format!("lyre-package-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let shop = Workshop(path);
        let binary = shop.0.join("lyre");
        run(Command::new("strip").args(["--strip-debug", "-o"]).arg(&binary).arg(env!("CARGO_BIN_EXE_lyre")));
        shop
    }

    fn package(&self, folder: &str) -> PathBuf {
        let out = self.0.join(folder);
        let script = root().join("rootfs/pack/deb.sh");
        let mut command = Command::new(script);
        command.arg(self.0.join("lyre")).arg(&out).env("SOURCE_DATE_EPOCH", "1700000000").env("LEVEL", "0");
        run(&mut command);
        fs::read_dir(&out).unwrap().next().unwrap().unwrap().path()
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {said}");
    said
}

#[test]
fn the_same_binary_makes_the_same_package_with_everything_in_it() {
    let shop = Workshop::new("same");
    let (first, second) = (shop.package("first"), shop.package("second"));
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "two packages of one binary differ");
    let files = run(Command::new("dpkg-deb").arg("--contents").arg(&first));
    for part in [
        "-rwxr-xr-x root/root",
        "./usr/bin/lyre",
        "./etc/lyre/lyre.toml",
        "./usr/lib/systemd/system/lyre.service",
        "./usr/share/doc/lyre/copyright",
        "./usr/share/doc/lyre/docs/operations.md",
        "./usr/share/bash-completion/completions/lyre",
    ] {
        assert!(files.contains(part), "{part} is not in\n{files}");
    }
    let control = run(Command::new("dpkg-deb").arg("--info").arg(&first));
    assert!(control.contains(&format!(" Version: {}\n", env!("CARGO_PKG_VERSION"))), "{control}");
    assert!(control.contains("libc6 (>= "), "{control}");
}

/// On this machine's files, seen through an overlay that keeps every change to itself.
#[test]
fn dpkg_installs_it_upgrades_it_keeping_the_configuration_and_purges_it() {
    let test = "dpkg_installs_it_upgrades_it_keeping_the_configuration_and_purges_it";
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIPPED: {test}: needs root for an overlay of the root file system");
    }
    let shop = Workshop::new("life");
    let package = shop.package("out");
    let script = r##"
        mount --make-rprivate /
        mount -t tmpfs tmpfs "$1"
        mkdir "$1/up" "$1/work" "$1/root" "$1/next"
        cp "$2" "$1/lyre.deb"
        dpkg-deb -R "$1/lyre.deb" "$1/next/tree"
        sed -i 's/^Version: .*/&+next/' "$1/next/tree/DEBIAN/control"
        echo "# of the next version" >> "$1/next/tree/etc/lyre/lyre.toml"
        dpkg-deb -Znone --root-owner-group --build "$1/next/tree" "$1/next.deb" > /dev/null
        mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
        cp "$1/lyre.deb" "$1/next.deb" "$1/root/"
        mount -t proc proc "$1/root/proc"
        mount -t tmpfs tmpfs "$1/root/run"
        mount --bind /dev "$1/root/dev"
        exec chroot "$1/root" /bin/sh -exc '
            export DEBIAN_FRONTEND=noninteractive
            dpkg --force-depends --install /lyre.deb
            lyre --version
            [ "$(stat -c %U:%G:%a /etc/lyre)" = root:lyre:750 ]
            id lyre_script
            echo "# mine" >> /etc/lyre/lyre.toml
            echo key > /etc/lyre/cluster.key
            mkdir /etc/lyre/tls
            echo certificate > /etc/lyre/tls/cloud.pem
            dpkg --force-depends --force-confold --install /next.deb
            grep -q "# mine" /etc/lyre/lyre.toml
            dpkg --remove lyre
            grep -q "# mine" /etc/lyre/lyre.toml
            [ ! -e /usr/bin/lyre ]
            dpkg --purge lyre
            [ ! -e /etc/lyre/lyre.toml ]
            [ ! -e /etc/lyre/cluster.key ]
            [ -e /etc/lyre/tls/cloud.pem ]
            [ -z "$(find / -xdev -path /proc -prune -o -name "*lyre*" -newer /lyre.deb -path "/usr/*" -print)" ]
        '"##;
    let place = shop.0.join("place");
    fs::create_dir(&place).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-exc", script, "sh"]);
    run(command.arg(&place).arg(&package));
}

#[test]
fn the_unit_is_one_that_systemd_understands_and_exposes_little() {
    let test = "the_unit_is_one_that_systemd_understands_and_exposes_little";
    let unit = root().join("rootfs/usr/lib/systemd/system/lyre.service");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return println!("SKIPPED: {test}: systemd-analyze is not installed");
    }
    // In tenths. What is left over is the network, which is the purpose, and real time.
    let threshold = ["security", "--offline=true", "--no-pager", "--threshold=22"];
    run(Command::new("systemd-analyze").args(threshold).arg(&unit));
    let shop = Workshop::new("unit");
    let copy = shop.0.join("lyre.service");
    let text = fs::read_to_string(&unit).unwrap();
    // The program need not be installed here.
    fs::write(&copy, text.replace("/usr/bin/lyre", shop.0.join("lyre").to_str().unwrap())).unwrap();
    let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
    assert!(!said.contains("lyre.service"), "{said}");
}
