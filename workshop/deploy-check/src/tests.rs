//! Each rule of the check is seen red: a table of mistakes, each planted in what deploy/ renders to or in a file.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers, too"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use devstack::workspace::{root, tool};
use devstack::{Host, Postgres, Programs, Redis, install};
use serde_json::Value;

use crate::policies::{self, Files};
use crate::render::{Object, elements, render_all, text, yaml};
use crate::tools::Tools;

/// Makes an edit; see the head of the table.
fn edit(value: &mut Value, path: &[&str], new: &Value) {
    match (path, value) {
        ([], value) => match new["instead of"].as_str() {
            Some(right) => *value = text(value).replace(right, text(&new["is"])).into(),
            None => *value = new.clone(),
        },
        ([word, path @ ..], Value::Array(list)) => {
            let named = list.iter().position(|element| element["name"] == *word);
            let index = word.parse().ok().or(named).unwrap_or(list.len());
            list.resize(list.len().max(index + 1), Value::Null);
            edit(&mut list[index], path, new);
            list.retain(|element| !element.is_null());
        }
        ([word, path @ ..], value) => {
            edit(&mut value[word], path, new);
            value.as_object_mut().unwrap().retain(|_, member| !member.is_null());
        }
    }
}

/// The check as people run it, of a copy of deploy/ with mistakes in its files: findings name the file to change.
#[test]
fn a_finding_names_the_file_to_change_and_the_checkout_has_none() {
    let tools = Tools::find_or_install(true).unwrap();
    let (what, findings) = crate::check(root(), &tools).unwrap();
    assert_eq!(findings, [""; 0]);
    assert!(what.ends_with("of 12 kustomizations"), "{what}");

    let copy = root().join(format!("target/deploy-check/copy-{}", std::process::id()));
    let script = "mkdir -p $1/docs && cp -r deploy spin.toml $1 && cp docs/operations.md $1/docs
        sed -i 's/maxReplicas: 10/maxReplicas: 100/' $1/deploy/base/autoscaler.yaml
        sed -i 's|path: \"/readyz?lost-store=degraded\"|path: /ready|' $1/deploy/overlays/spintainer/app.yaml
        sed -i 's/stage: template/stage: beta/' $1/deploy/overlays/shim/kustomization.yaml";
    shell(script, &copy);
    let (_, findings) = crate::check(&copy, &tools).unwrap();
    for start in [
        "deploy/base/autoscaler.yaml (in deploy/overlays/deployment): HorizontalPodAutoscaler/orders: spec.maxReplicas",
        "deploy/overlays/spintainer/app.yaml: SpinApp/orders: spec.checks.readiness.httpGet.path: \"/ready\"",
        "deploy/overlays/shim/kustomization.yaml: Kustomization/shim: metadata.annotations.deploy-check/stage: must be",
    ] {
        let is_said = findings.iter().any(|line| line.starts_with(start));
        assert!(is_said, "nothing says {start}, but: {findings:#?}");
    }
    let script = "sed -i 's/- stores.yaml/- store.yaml/' $1/deploy/overlays/laptop/kustomization.yaml";
    shell(script, &copy);
    let error = format!("{:#}", crate::check(&copy, &tools).unwrap_err());
    let start = "deploy/overlays/laptop/kustomization.yaml cannot be rendered";
    assert!(error.starts_with(start), "{error}");
    std::fs::remove_dir_all(copy).unwrap();
}

#[test]
fn each_planted_mistake_is_found() {
    let tools = Tools::find_or_install(true).unwrap();
    let rendered = render_all(root(), &tools).unwrap().0;
    let table = yaml(include_str!("mistakes.yaml")).unwrap();
    let (mut broken, mut alone) = (Vec::new(), Vec::new());
    for (n, row) in elements(&table).enumerate() {
        let mut overlays = rendered.clone();
        let (folder, list) = (format!("deploy/{}", text(&row[0])), row.as_array().unwrap());
        let one = [&list[1..4.min(list.len())]];
        let several: Vec<&[Value]> = elements(&row[1]).map(|edit| elements(edit).as_slice()).collect();
        let (edits, says) = if several.is_empty() { (&one[..], &list[4..]) } else { (&several[..], &list[2..]) };
        let of_file = |edit: &&&[Value]| root().join(text(&edit[0])).is_file();
        let changed = |name: &str| {
            let mut content = std::fs::read_to_string(root().join(name))?;
            for edit in edits.iter().filter(|edit| edit[0] == name) {
                assert!(content.contains(text(&edit[1])), "{row} is not there");
                content = content.replace(text(&edit[1]), text(&edit[2]));
            }
            Ok(content)
        };
        for planted in edits.iter().filter(|edit| !of_file(edit)) {
            let of = overlays.iter_mut().find(|overlay| overlay.folder == folder).unwrap();
            if planted[0] == "stage" {
                of.objects.iter_mut().for_each(|o| o.stage = "production".into());
                continue;
            }
            let is_it = |o: &&mut Object| format!("{}/{}", o.kind(), o.name()).starts_with(text(&planted[0]));
            let object = of.objects.iter_mut().find(is_it).unwrap_or_else(|| panic!("{row}"));
            let short = [("ENV", "MAIN env"), ("MAIN", "POD containers 0"), ("POD", "spec template spec")];
            let long = |path: String, (short, long): (&str, &str)| path.replace(short, long);
            let path = short.into_iter().fold(text(&planted[1]).to_owned(), long);
            let before = object.value.clone();
            let words: Vec<&str> = path.split(' ').filter(|word| !word.is_empty()).collect();
            edit(&mut object.value, &words, &planted[2]);
            assert_ne!(object.value, before, "{row}");
            // Validators see the object alone, under a name that says which row it is of.
            let file = format!("row {n}");
            alone.push(Object { file, ..object.clone() });
        }
        broken.push((row, says, policies::check(&Files::load(changed).unwrap(), &overlays)));
    }
    let of_validators = tools.validate(root(), &alone.iter().collect::<Vec<_>>()).unwrap();
    let all: String = broken.iter().map(|(.., findings)| findings.join("\n")).collect();
    let mut missed = String::new();
    let rules = yaml(include_str!("policies/rules.yaml")).unwrap();
    for rule in elements(&rules).filter(|rule| !all.contains(text(&rule["why"]))) {
        missed += &format!("{rule} has no row\n");
    }
    for (n, (row, says, findings)) in broken.into_iter().enumerate() {
        let start = format!("row {n}:");
        let of_row = of_validators.iter().filter(|line| line.starts_with(&start));
        let lines = findings.iter().chain(of_row);
        let says_it = |line: &String| says.iter().all(|part| line.contains(text(part)));
        let is_right = lines.clone().any(says_it) != says.is_empty();
        if !is_right {
            missed += &format!("{row}: {:#?}\n", lines.collect::<Vec<_>>());
        }
    }
    assert!(missed.is_empty(), "nothing says of these what it must:\n{missed}");
}

/// The image's entrypoint, with a program in Spin's place that prints what it got, and serves 2 s after SIGTERM.
#[test]
fn the_entrypoint_raises_the_limit_of_files_passes_flags_and_a_status_and_drains() {
    let folder = root().join(format!("target/deploy-check/bin-{}", std::process::id()));
    let flags = "--state-dir  --max-instance-reuse-count 128 --max-instance-concurrent-reuse-count 16 \
                 --idle-instance-timeout 1s";
    let said = shell(include_str!("entrypoint-test.sh"), &folder);
    let (ended, after) = said.rsplit_once("ended after ").unwrap();
    assert_eq!(ended, format!("512 up --from once {flags}\nstatus 7\n512 up --from x {flags}\n"));
    let seconds: u32 = after.strip_suffix(" s\nstatus 3\n").unwrap().parse().unwrap();
    assert!(seconds >= 6, "{after}");
}

/// The laptop's overlay in pods of podman, served by Spin where it is on PATH: see pod.py.
#[test]
fn pods_start_create_replay_keep_their_limits_outlast_an_outage_and_drain() {
    let Some(_) = devstack::or_skip("pods in podman", install::find_or_install_podman(true)) else { return };
    let (tools, programs) = (Tools::find_or_install(true).unwrap(), Programs::find_or_install(true).unwrap());
    let folder = root().join(format!("target/deploy-check/pods-{}", std::process::id()));
    let redis = Redis::start(&programs, &folder.join("redis")).unwrap();
    let postgres = Postgres::start(&programs, &folder.join("postgres")).unwrap();
    let spin = Host::spin().and_then(|_| install::on_path("spin")).unwrap_or_else(|| tool("runner"));
    let mut python = tools.environment.command("python3");
    python.arg("workshop/deploy-check/src/pod.py").arg(folder.join("podman")).arg(redis.port().to_string());
    python.args([postgres.url("postgres"), postgres.process_id().unwrap().to_string()]).arg(spin);
    let status = python.arg(tool("migrator")).current_dir(root()).status().unwrap();
    drop((redis, postgres));
    Postgres::remove_all(&folder).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(status.success());
}

/// Runs a script in the checkout, with a folder as its argument.
fn shell(script: &str, folder: &Path) -> String {
    let mut command = Command::new("sh");
    command.args(["-euc", script, "sh"]).arg(folder).current_dir(root());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}
