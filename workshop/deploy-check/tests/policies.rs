//! Each rule of the check is seen red: a table of mistakes, each planted in what deploy/ renders to.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers, too"
)]

use std::sync::OnceLock;

use deploy_check::policies::{self, Files};
use deploy_check::render::{Object, Overlay, Stage, elements, read_yaml, render_all, text};
use deploy_check::tools::Tools;
use devstack::workspace::root;
use serde_json::{Value, json};

fn tools() -> Tools {
    Tools::find_or_install(true).unwrap()
}

/// What deploy/ renders to, rendered once.
fn rendered() -> (Files, Vec<Overlay>) {
    static RENDERED: OnceLock<Vec<Overlay>> = OnceLock::new();
    let overlays = RENDERED.get_or_init(|| render_all(root(), &tools()).unwrap().0);
    (Files::load(root()).unwrap(), overlays.clone())
}

fn overlay<'a>(overlays: &'a mut [Overlay], folder: &str) -> &'a mut Overlay {
    let folder = format!("deploy/{folder}");
    overlays.iter_mut().find(|o| o.folder == folder).unwrap()
}

fn object<'a>(overlay: &'a mut Overlay, name: &str) -> &'a mut Object {
    let mut objects = overlay.objects.iter_mut();
    let is_it = |o: &&mut Object| format!("{}/{}", o.kind(), o.name()).starts_with(name);
    objects.find(is_it).unwrap_or_else(|| panic!("no {name}"))
}

/// Sets a member, or removes it; see the head of the table.
fn plant(value: &mut Value, path: &str, new: &Value) {
    let path = path
        .replace("ENV", "MAIN env")
        .replace("MAIN", "POD containers 0")
        .replace("POD", "spec template spec");
    let mut words: Vec<&str> = path.split(' ').collect();
    let last = words.pop().unwrap();
    let index = |list: &[Value], word: &str| match word {
        "+" => list.len(),
        _ => word
            .parse()
            .unwrap_or_else(|_| list.iter().position(|e| e["name"] == word).expect(word)),
    };
    let parent = words.into_iter().fold(value, |value, word| match value {
        Value::Array(list) => {
            let index = index(list, word);
            &mut list[index]
        }
        value => &mut value[word],
    });
    match parent {
        Value::Array(list) => {
            let index = index(list, last);
            list.splice(index..list.len().min(index + 1), (!new.is_null()).then(|| new.clone()));
        }
        parent if new.is_null() => assert!(parent.as_object_mut().unwrap().remove(last).is_some(), "{path}"),
        parent => parent[last] = new.clone(),
    }
}

/// A finding, all of whose parts are in one line.
fn assert_found(findings: &[deploy_check::Finding], parts: &[&str]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let is_found = |line: &String| parts.iter().all(|part| line.contains(part));
    assert!(
        lines.iter().any(is_found),
        "nothing says {parts:?}, but:\n{}",
        lines.join("\n")
    );
}

#[test]
fn the_checkout_is_in_order() {
    let report = deploy_check::check(root(), &tools()).unwrap();
    let findings: String = report.findings.iter().map(|f| format!("{f}\n")).collect();
    assert_eq!(findings, "");
    assert!(report.overlays >= 7, "{}", report.overlays);
}

#[test]
fn each_planted_mistake_is_found() {
    let table = read_yaml(&root().join("workshop/deploy-check/tests/mistakes.yaml")).unwrap();
    let (files, overlays) = rendered();
    let mut broken = Vec::new();
    for row in elements(&table) {
        let mut overlays = overlays.clone();
        let of = overlay(&mut overlays, text(&row[0]));
        let stage = of.stage;
        let object = object(of, text(&row[1]));
        plant(&mut object.value, text(&row[2]), &row[3]);
        // Validators see the object alone, under a name that says which row it is of.
        object.file = format!("row {}", broken.len());
        let alone = object.clone();
        let of_policies = policies::check(&files, &overlays);
        broken.push((
            row,
            of_policies,
            Overlay {
                folder: alone.file.clone(),
                stage,
                objects: vec![alone],
            },
        ));
    }
    let alone: Vec<Overlay> = broken.iter().map(|(.., alone)| alone.clone()).collect();
    let of_validators = tools().validate(root(), &alone).unwrap();
    let mut missed = Vec::new();
    for (row, mut findings, alone) in broken {
        findings.extend(of_validators.iter().filter(|f| f.file == alone.folder).cloned());
        let parts: Vec<&str> = elements(row).skip(4).map(text).collect();
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        if !lines.iter().any(|line| parts.iter().all(|part| line.contains(part))) {
            missed.push(format!("{row}\n    {}", lines.join("\n    ")));
        }
    }
    assert!(
        missed.is_empty(),
        "nothing says of these what it must:\n{}",
        missed.join("\n")
    );
}

/// The same in the configuration of a collector, which is text in a ConfigMap.
#[rustfmt::skip]
const COLLECTOR_MISTAKES: [(&str, &str, &str, &str, &str); 6] = [
    ("overlays/deployment", "processors: [memory_limiter, redaction/allow, transform/spans, batch]",
        "processors: [batch]", "service.pipelines.traces", "has no redaction"),
    ("overlays/deployment", "allow_all_keys: false", "allow_all_keys: true", "redaction/allow.allow_all_keys",
        "must be false"),
    ("overlays/deployment", "- http.route", "- arguments", "redaction/allow.allowed_keys", "what clients sent"),
    ("overlays/deployment", "exporters: [otlp_http]", "exporters: [otlp]", "service.pipelines", "there is no \"otlp\""),
    ("observability", "- {key: outcome}", "- {key: customer}", "connectors",
        "\"customer\" is no field of the request log"),
    ("observability", "connectors:", "connectors: [", "data.agent-config.yaml", "is not YAML"),
];

#[test]
fn each_mistake_in_a_collector_is_found() {
    for (folder, right, wrong, field, reason) in COLLECTOR_MISTAKES {
        let (files, mut overlays) = rendered();
        let map = object(overlay(&mut overlays, folder), "ConfigMap/");
        for content in map.value["data"].as_object_mut().unwrap().values_mut() {
            assert!(text(content).contains(right), "{right} is not there");
            *content = text(content).replace(right, wrong).into();
        }
        assert_found(&policies::check(&files, &overlays), &["ConfigMap", field, reason]);
    }
}

#[test]
fn files_outside_of_kustomizations_count() {
    let (mut files, mut overlays) = rendered();
    let containerfile = &mut files.containerfiles[0].1;
    *containerfile = containerfile
        .replace("FROM ${SPIN_IMAGE}", "FROM ghcr.io/spinframework/spin:v4.1.0")
        .replace("ARG RUST_IMAGE", "ARG RUST_IMAGE=rust:1.95");
    files.valkey_values["image"]["tag"] = json!("9.1");
    let variables = files.manifest["variables"].as_object_mut().unwrap();
    variables.remove("identity_header").unwrap();
    variables.insert("cache_url".into(), json!({"required": true}));
    files.manifest["trigger"]["http"] = json!([{"route": "/api/..."}]);
    let findings = policies::check(&files, &overlays);
    for parts in [
        ["image: line", "FROM ghcr.io/spinframework/spin:v4.1.0"],
        ["image: line", "ARG RUST_IMAGE=rust:1.95: has a default"],
        ["image.tag", "\"9.1\" is not pinned"],
        ["Deployment/orders", "no longer has identity_header"],
        ["SPIN_VARIABLE_CACHE_URL", "spin.toml requires cache_url"],
        ["spec.variables (cache_url)", "spin.toml requires cache_url"],
        ["livenessProbe.httpGet.path", "no trigger in spin.toml takes /healthz"],
    ] {
        assert_found(&findings, &parts);
    }
    // A smaller pool in the runtime configuration lets more pods fit.
    let mut files = Files::load(root()).unwrap();
    let deployment = overlay(&mut overlays, "overlays/deployment");
    object(deployment, "HorizontalPodAutoscaler/").value["spec"]["maxReplicas"] = json!(20);
    assert_found(&policies::check(&files, &overlays), &["spec.maxReplicas"]);
    files.runtime = json!({"outbound_pg": {"max_connections": 32}});
    assert_eq!(policies::check(&files, &overlays), []);
}

#[test]
fn production_rejects_placeholders_and_an_overlay_needs_an_application() {
    let (files, mut overlays) = rendered();
    for overlay in &mut overlays {
        overlay.stage = Stage::Production;
    }
    let is_deployment = |o: &Object| o.kind() == "Deployment" && o.name() == "orders";
    let copy = overlay(&mut overlays, "overlays/deployment").clone();
    overlay(&mut overlays, "overlays/deployment")
        .objects
        .retain(|o| !is_deployment(o));
    let without = policies::check(&files, &overlays);
    assert_found(&without, &["deploy/overlays/deployment", "neither a SpinApp nor"]);
    overlays.push(copy);
    let findings = policies::check(&files, &overlays);
    for object in [
        "Deployment/orders:",
        "Deployment/orders-otel",
        "SpinAppExecutor",
        "SpinApp/",
        "Job/",
        "Cluster/",
    ] {
        assert_found(&findings, &[object, "has the placeholder for a digest"]);
    }
}

#[test]
fn identity_from_a_header_needs_a_gateway_that_removes_it() {
    let (files, mut overlays) = rendered();
    let of = overlay(&mut overlays, "overlays/deployment");
    let app = object(of, "Deployment/orders");
    plant(&mut app.value, "ENV SPIN_VARIABLE_IDENTITY value", &json!("header"));
    plant(&mut app.value, "ENV SPIN_VARIABLE_JWT_KEYS", &Value::Null);
    assert_eq!(policies::check(&files, &overlays), []);
    let of = overlay(&mut overlays, "overlays/deployment");
    let app = object(of, "Deployment/orders");
    let header = json!({"name": "SPIN_VARIABLE_IDENTITY_HEADER", "value": "X-Customer"});
    plant(&mut app.value, "ENV +", &header);
    let findings = policies::check(&files, &overlays);
    assert_found(
        &findings,
        &[
            "HTTPRoute/orders",
            "spec.rules.0.filters",
            "lets the client's own X-Customer pass",
        ],
    );
    let of = overlay(&mut overlays, "overlays/deployment");
    of.objects.retain(|o| o.kind() != "HTTPRoute");
    assert_found(
        &policies::check(&files, &overlays),
        &["Kustomization", "there is no HTTPRoute"],
    );
    let early = Object {
        file: "policy.yaml".into(),
        value: json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "ClientTrafficPolicy",
            "metadata": {"name": "early"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}],
                "headers": {"earlyRequestHeaders": {"remove": ["x-customer"]}},
            },
        }),
    };
    overlay(&mut overlays, "overlays/deployment").objects.push(early);
    assert_eq!(policies::check(&files, &overlays), []);
}

/// The program as people run it, on a copy of deploy/ with mistakes in its files.
#[test]
fn a_finding_names_the_file_to_change() {
    let copy = root().join(format!("target/deploy-check/copy-{}", std::process::id()));
    let copied = std::process::Command::new("sh")
        .args([
            "-euc",
            "mkdir -p $1/docs && cp -r deploy spin.toml $1 && cp docs/operations.md $1/docs",
            "copy",
        ])
        .arg(&copy)
        .current_dir(root())
        .status();
    assert!(copied.unwrap().success());
    let replace = |file: &str, right: &str, wrong: &str| {
        let path = copy.join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.contains(right), "{right:?} is not in {file}");
        std::fs::write(path, before.replace(right, wrong)).unwrap();
    };
    replace("deploy/base/autoscaler.yaml", "maxReplicas: 10", "maxReplicas: 100");
    replace("deploy/overlays/spintainer/app.yaml", "path: /readyz", "path: /ready");
    replace(
        "deploy/overlays/shim/kustomization.yaml",
        "stage: template",
        "stage: beta",
    );
    let findings = deploy_check::check(&copy, &tools()).unwrap().findings;
    for start in [
        "deploy/base/autoscaler.yaml (in deploy/overlays/deployment): HorizontalPodAutoscaler/orders: \
         spec.maxReplicas: 100",
        "deploy/overlays/spintainer/app.yaml: SpinApp/orders: spec.checks.readiness.httpGet.path: asks for \"/ready\"",
        "deploy/overlays/shim/kustomization.yaml: Kustomization: metadata.annotations.deploy-check/stage: \
         must be part, template, production or laptop, not \"beta\"",
    ] {
        assert_found(&findings, &[start]);
    }
    replace(
        "deploy/overlays/laptop/kustomization.yaml",
        "- stores.yaml",
        "- store.yaml",
    );
    let error = format!("{:#}", deploy_check::check(&copy, &tools()).unwrap_err());
    assert!(
        error.starts_with("deploy/overlays/laptop/kustomization.yaml cannot be rendered"),
        "{error}"
    );
    std::fs::remove_dir_all(copy).unwrap();
}
