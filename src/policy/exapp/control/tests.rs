use super::*;

fn status(result: Result<Endpoint, Reply>) -> (u16, String) {
    let reply = result.unwrap_err();
    (reply.status, String::from_utf8(reply.body).unwrap())
}

fn bad(verb: Verb, body: &str) -> String {
    let reply = docker(verb, Some(b"24000"), body.as_bytes()).unwrap_err();
    assert_eq!(reply.status, 400, "{body}");
    String::from_utf8(reply.body).unwrap()
}

fn good(verb: Verb, body: &str) -> Command {
    docker(verb, Some(b"24000"), body.as_bytes()).unwrap_or_else(|reply| panic!("{body}: {reply:?}")).1
}

#[test]
fn case_41_the_heartbeat_is_a_constant() {
    assert_eq!(endpoint(Method::Get, b"/heartbeat").unwrap(), Endpoint::Heartbeat);
    assert_eq!(heartbeat().body, br#"{"status":"ok"}"#);
}

#[test]
fn case_42_info_tells_a_version_that_appapi_can_compare() {
    assert_eq!(endpoint(Method::Get, b"/info").unwrap(), Endpoint::Info);
    let info: serde_json::Value = serde_json::from_slice(&info("9.9.9-dev").body).unwrap();
    let version: Vec<u32> = info["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version.len() == 3 && version >= vec![0, 4, 4]);
    assert_eq!((info["docker"].as_bool(), info["kubernetes"]["enabled"].as_bool()), (Some(true), Some(false)));
}

#[test]
fn case_43_and_44_storage_is_written_and_deleted_in_lower_case() {
    assert_eq!(endpoint(Method::Post, b"/exapp_storage/Foo").unwrap(), Endpoint::Push("foo".into()));
    assert_eq!(endpoint(Method::Delete, b"/exapp_storage/foo").unwrap(), Endpoint::Withdraw("foo".into()));
    assert_eq!(bad_record().body, b"400: Bad Request");
}

#[test]
fn other_paths_and_methods_are_refused_as_harp_does() {
    let not_found = (404, "404: Not Found".to_owned());
    for path in ["/", "/v1.44/_ping", "/docker/exapp/dance", "/exapp_storage/", "/exapp_storage/a/b", "/frp_handler"] {
        assert_eq!(status(endpoint(Method::Post, path.as_bytes())), not_found, "{path}");
    }
    let not_allowed = (405, "405: Method Not Allowed".to_owned());
    for (method, path) in [
        (Method::Post, "/heartbeat"),
        (Method::Get, "/exapp_storage/foo"),
        (Method::Get, "/docker/exapp/start"),
        (Method::Get, "/k8s/exapp/start"),
    ] {
        assert_eq!(status(endpoint(method, path.as_bytes())), not_allowed, "{path}");
    }
}

#[test]
fn case_59_kubernetes_says_that_it_is_disabled() {
    for verb in ["exists", "create", "start", "stop", "wait_for_start", "remove", "expose", "install_certificates"] {
        let reply = status(endpoint(Method::Post, format!("/k8s/exapp/{verb}").as_bytes()));
        assert_eq!(reply, (503, "Kubernetes backend is disabled in HaRP.".to_owned()), "{verb}");
    }
}

#[test]
fn case_58_what_is_wrong_with_a_docker_call_is_said() {
    let text = |port: Option<&[u8]>| {
        String::from_utf8(docker(Verb::Exists, port, br#"{"name":"foo"}"#).unwrap_err().body).unwrap()
    };
    assert_eq!(text(None), "Missing 'docker-engine-port' header.");
    for port in ["x", "0", "65536", "-1", ""] {
        assert_eq!(text(Some(port.as_bytes())), format!("Invalid 'docker-engine-port' header value: {port}"));
    }
    assert_eq!(bad(Verb::Exists, "{"), "Invalid JSON body");
    assert_eq!(bad(Verb::Exists, "{}"), "Payload validation error: name is missing");
    assert_eq!(bad(Verb::Start, "[]"), "Payload validation error: body is not an object");
    for (verb, body) in [
        (Verb::Start, r#"{"name":1}"#),
        (Verb::Start, r#"{"name":"a/b"}"#),
        (Verb::Start, r#"{"name":"a","role_suffix":"../x"}"#),
        (Verb::Remove, r#"{"name":"a","remove_data":"maybe"}"#),
        (Verb::Create, r#"{"name":"a"}"#),
        (Verb::Create, r#"{"name":"a","image_id":"x","network_mode":"container:db"}"#),
        (Verb::Create, r#"{"name":"a","image_id":"x","compute_device":"tpu"}"#),
        (Verb::Create, r#"{"name":"a","image_id":"x","environment_variables":[1]}"#),
        (Verb::Create, r#"{"name":"a","image_id":"x","mount_points":[{"source":"/x"}]}"#),
        (Verb::Create, r#"{"name":"a","image_id":"x","resource_limits":{"memory":"much"}}"#),
        (Verb::InstallCertificates, r#"{"name":"a","system_certs_bundle":7}"#),
    ] {
        assert!(bad(verb, body).starts_with("Payload validation error: "), "{body}");
    }
}

#[test]
fn case_56_an_image_to_remove_has_a_name() {
    assert_eq!(
        bad(Verb::ImageRemove, r#"{"image_ref":""}"#),
        "Payload validation error: image_ref has a value that cannot be used"
    );
    assert_eq!(bad(Verb::ImageRemove, "{}"), "Payload validation error: image_ref is missing");
    assert_eq!(good(Verb::ImageRemove, r#"{"image_ref":"a/b:c"}"#), Command::ImageRemove { image: "a/b:c".into() });
}

#[test]
fn names_are_made_as_harp_makes_them() {
    let names = |body| match good(Verb::Exists, body) {
        Command::Exists(names) => (names.container, names.volume),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(r#"{"name":"foo"}"#), ("nc_app_foo".into(), "nc_app_foo_data".into()));
    assert_eq!(names(r#"{"name":"foo","instance_id":"","role_suffix":""}"#).0, "nc_app_foo");
    let all = r#"{"name":"foo","instance_id":"i1","role_suffix":"rp"}"#;
    assert_eq!(names(all), ("nc_app_i1_foo_rp".into(), "nc_app_i1_foo_data".into()));
}

#[test]
fn create_has_its_defaults_and_php_writes_no_limits_as_a_list() {
    let body = r#"{"name":"foo","image_id":"ghcr.io/x/foo:1","resource_limits":[],"start_container":true}"#;
    let Command::Create(create) = good(Verb::Create, body) else { panic!() };
    assert_eq!((create.network.as_str(), create.restart_policy.as_str()), ("bridge", "unless-stopped"));
    assert_eq!((create.device, create.memory_bytes, create.nano_cpus), (Device::Cpu, None, None));
    let body = r#"{"name":"foo","image":"x","compute_device":"cuda","resource_limits":{"memory":5,"nanoCPUs":7},
        "environment_variables":["A=b"],"mount_points":[{"source":"/s","target":"/t","mode":"ro"},{"source":"/s","target":"/u"}]}"#;
    let Command::Create(create) = good(Verb::Create, body) else { panic!() };
    assert_eq!((create.device, create.memory_bytes, create.nano_cpus), (Device::Cuda, Some(5), Some(7)));
    assert_eq!(create.mounts.iter().map(|mount| mount.is_read_only).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn case_45_a_ping_passes_to_the_engine() {
    for method in [Method::Get, Method::Head] {
        assert_eq!(raw_call(method, b"/v1.44/_ping").as_deref(), Some("/v1.44/_ping"));
        assert_eq!(raw_call(method, b"/_ping").as_deref(), Some("/_ping"));
    }
    for path in ["/v1.44/_pingx", "/v1.44/x/_ping", "/vx/_ping", "/v/_ping"] {
        assert_eq!(raw_call(Method::Get, path.as_bytes()), None, "{path}");
    }
}

#[test]
fn case_46_other_calls_do_not_pass_to_the_engine() {
    for (method, path) in [
        (Method::Get, "/v1.44/containers/json"),
        (Method::Post, "/v1.44/containers/create"),
        (Method::Delete, "/v1.44/containers/nc_app_x"),
        (Method::Get, "/v1.44/containers/other/json"),
        (Method::Get, "/v1.44/containers/nc_app_/json"),
        (Method::Get, "/v1.44/containers/nc_app_x/json/x"),
        (Method::Get, "/v1.44/containers/nc_app_x/archive"),
        (Method::Get, "/v1.44/containers/nc_app_x%2F..%2Fdb/json"),
        (Method::Get, "/images/x/../../containers/json"),
        (Method::Get, "/images//json"),
        (Method::Get, "/images/json"),
        (Method::Get, "/images/create"),
        (Method::Post, "/v1.44/images/create/x"),
        (Method::Post, "/v1.44/images/load"),
        (Method::Get, "/info"),
        (Method::Get, "/images/a%0d%0ab/json"),
        (Method::Get, "/images/\u{e9}/json"),
    ] {
        assert_eq!(raw_call(method, path.as_bytes()), None, "{path}");
    }
}

#[test]
fn calls_that_pass_are_written_anew() {
    for (path, sent) in [
        ("/v1.44/images/ghcr.io/x/foo:1-cuda/json", "/v1.44/images/ghcr.io/x/foo:1-cuda/json"),
        ("/v1.44/images/a%2Fb%3Ac/json", "/v1.44/images/a/b:c/json"),
        ("/v1.44/images/x%3Fy/json", "/v1.44/images/x%3Fy/json"),
        ("/images/x%252e%252e/json", "/images/x%252e%252e/json"),
        ("/v1.44/containers/nc_app_foo/json", "/v1.44/containers/nc_app_foo/json"),
        ("/v1.44/containers/nc_app_foo.b-c_d/logs", "/v1.44/containers/nc_app_foo.b-c_d/logs"),
    ] {
        assert_eq!(raw_call(Method::Get, path.as_bytes()).as_deref(), Some(sent), "{path}");
    }
    assert_eq!(raw_call(Method::Post, b"/v1.44/images/create").as_deref(), Some("/v1.44/images/create"));
}
