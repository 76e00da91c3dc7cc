use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const DAY: u64 = 86_400;

/// 2026-01-01.
const NOW: Duration = Duration::from_secs(1_767_225_600);

struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        Directory(std::env::temp_dir().join(format!("lyre-frp-files-{:016x}", fastrand::u64(..))))
    }

    fn read(&self, name: &str) -> String {
        read(&self.0.join(name)).unwrap()
    }

    fn days_left(&self, name: &str) -> i64 {
        (not_after(&self.0.join(name)).unwrap() - NOW.as_secs() as i64) / DAY as i64
    }

    fn openssl(&self, command: &str) -> String {
        let output = Command::new("sh").arg("-ec").arg(command).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn has_openssl(test: &str) -> bool {
    let is_there = Command::new("openssl").arg("version").output().is_ok();
    if !is_there {
        println!("SKIPPED: {test}: openssl is not installed");
    }
    is_there
}

#[test]
fn case_64_a_new_directory_has_everything_and_stays_as_it_is() {
    let directory = Directory::new();
    assert_eq!(prepare(&directory.0, 100, NOW).unwrap(), Outcome::Made);
    let mut names: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key"]);
    for (name, mode) in [("ca.crt", 0o644), ("ca.key", 0o600), ("server.key", 0o600), ("client.key", 0o600)] {
        assert_eq!(fs::metadata(directory.0.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    let all =
        || ["ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key"].map(|n| directory.read(n));
    let before = all();
    assert_eq!(prepare(&directory.0, 100, NOW).unwrap(), Outcome::Kept);
    assert_eq!(all(), before);
    assert_eq!(["ca.crt", "server.crt", "client.crt"].map(|name| directory.days_left(name)), [100; 3]);
}

#[test]
fn case_64_openssl_sees_in_them_what_harp_makes() {
    if !has_openssl("case_64_openssl_sees_in_them_what_harp_makes") {
        return;
    }
    let directory = Directory::new();
    prepare(&directory.0, DAYS, NOW).unwrap();
    let at = NOW.as_secs() + DAY;
    directory.openssl(&format!("openssl verify -attime {at} -CAfile ca.crt server.crt client.crt"));
    for (file, subject) in [("ca", "harp.nc"), ("server", "harp.nc"), ("client", "harp.client.nc")] {
        let text = directory.openssl(&format!("openssl x509 -in {file}.crt -noout -subject -issuer -text"));
        assert!(text.contains(&format!("subject=CN = {subject}\n")), "{text}");
        assert!(text.contains("issuer=CN = harp.nc\n") && text.contains("(2048 bit)"), "{text}");
        assert!(text.contains("sha256WithRSAEncryption"), "{text}");
        assert_eq!(text.contains(&format!("DNS:{subject}")), file != "ca", "{text}");
        assert!(!text.contains("Extended Key Usage"), "{text}");
    }
}

#[test]
fn the_servers_leaf_is_renewed_in_its_last_thirty_days_and_nothing_else_is() {
    let directory = Directory::new();
    prepare(&directory.0, 100, NOW).unwrap();
    let kept = || ["ca.crt", "ca.key", "client.crt", "client.key", "server.key"].map(|name| directory.read(name));
    let (before, leaf) = (kept(), directory.read("server.crt"));
    let after = |days: u64| NOW + Duration::from_secs(days * DAY);
    assert_eq!(prepare(&directory.0, 100, after(70)).unwrap(), Outcome::Kept);
    assert_eq!(prepare(&directory.0, 100, after(71)).unwrap(), Outcome::Renewed);
    assert_eq!(kept(), before);
    assert_ne!(directory.read("server.crt"), leaf);
    assert_eq!(directory.days_left("server.crt"), 171);
}

/// As its start.sh made them until 0.4.3: leaves of a year under an authority of thirteen.
const HARP: &str = "openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 5000 -subj /CN=harp.nc -keyout ca.key -out ca.crt
for pair in server:harp.nc client:harp.client.nc; do
  file=${pair%%:*} name=${pair#*:}
  openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $file.key -out $file.csr
  echo \"subjectAltName=DNS:$name\" > $file.cnf
  openssl x509 -req -in $file.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -sha256 -extfile $file.cnf -out $file.crt
done";

#[test]
fn case_65_harps_directory_is_adopted_and_its_server_gets_a_new_leaf_that_old_clients_believe() {
    if !has_openssl("case_65_harps_directory_is_adopted") {
        return;
    }
    let directory = Directory::new();
    fs::create_dir(&directory.0).unwrap();
    directory.openssl(HARP);
    let kept = || ["ca.crt", "ca.key", "client.crt", "client.key"].map(|name| directory.read(name));
    let before = kept();
    // A day before its end; openssl knows no other time than now.
    let end = not_after(&directory.0.join("server.crt")).unwrap();
    let now = Duration::from_secs(end as u64 + DAY);
    assert_eq!(prepare(&directory.0, 300, now).unwrap(), Outcome::Renewed);
    assert_eq!(kept(), before);
    let at = now.as_secs() + 200 * DAY;
    directory.openssl(&format!("openssl verify -attime {at} -CAfile ca.crt -verify_hostname harp.nc server.crt"));
    directory
        .openssl("openssl x509 -in server.crt -noout -pubkey > a; openssl pkey -in server.key -pubout > b; cmp a b");
}

#[test]
fn an_authority_that_is_not_a_pair_changes_nothing() {
    let (directory, other) = (Directory::new(), Directory::new());
    prepare(&directory.0, 100, NOW).unwrap();
    prepare(&other.0, 100, NOW).unwrap();
    fs::copy(other.0.join("ca.key"), directory.0.join("ca.key")).unwrap();
    let leaf = directory.read("server.crt");
    let error = prepare(&directory.0, 100, NOW + Duration::from_secs(90 * DAY)).unwrap_err();
    assert!(error.to_string().contains("does not sign for ca.crt"), "{error}");
    assert_eq!(directory.read("server.crt"), leaf);
}

#[test]
fn what_is_missing_is_named() {
    let directory = Directory::new();
    prepare(&directory.0, 100, NOW).unwrap();
    fs::remove_file(directory.0.join("server.crt")).unwrap();
    fs::remove_file(directory.0.join("ca.key")).unwrap();
    let error = prepare(&directory.0, 100, NOW).unwrap_err().to_string();
    assert!(error.contains("ca.key"), "{error}");
    let nowhere = directory.0.join("a/b");
    assert!(prepare(&nowhere, 100, NOW).unwrap_err().to_string().contains("a/b"));
}
