//! Each rule of the check is seen red: a table of mistakes, each planted in what deploy/ renders to or in a file.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers, too"
)]

use std::process::Command;

use devstack::workspace::root;
use serde_json::Value;

use crate::policies::{self, Files};
use crate::render::{Object, Overlay, Stage, elements, render_all, text, yaml};
use crate::tools::Tools;

/// Makes an edit, and returns the object that it changed; see the head of the table.
fn plant(of: &mut Overlay, object: &str, path: &Value, new: &Value) -> Option<Object> {
    let is_it = |o: &Object| format!("{}/{}", o.kind(), o.name()).starts_with(object);
    let index = of.objects.iter().position(is_it);
    match (path.as_str(), index) {
        _ if object == "stage" => of.stage = Stage::Production,
        (None, _) => of.objects.push(Object {
            file: "added.yaml".into(),
            value: new.clone(),
        }),
        (Some(""), index) => drop(of.objects.remove(index.expect(object))),
        (Some(path), index) => {
            let object = &mut of.objects[index.expect(object)];
            edit(&mut object.value, path, new);
            return Some(object.clone());
        }
    }
    None
}

fn edit(value: &mut Value, path: &str, new: &Value) {
    let path = path
        .replace("ENV", "MAIN env")
        .replace("MAIN", "POD containers 0")
        .replace("POD", "spec template spec");
    let index = |list: &[Value], word: &str| match word {
        "+" => list.len(),
        _ => word
            .parse()
            .unwrap_or_else(|_| list.iter().position(|e| e["name"] == word).expect(word)),
    };
    let mut words: Vec<&str> = path.split(' ').collect();
    let last = words.pop().unwrap();
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
        parent => match &new["instead of"] {
            Value::Null => parent[last] = new.clone(),
            right => {
                let before = text(&parent[last]).to_owned();
                assert!(before.contains(text(right)), "{right} is not there");
                parent[last] = before.replace(text(right), text(&new["is"])).into();
            }
        },
    }
}

/// The check as people run it, of a copy of deploy/ with mistakes in its files: findings name the file to change.
#[test]
fn a_finding_names_the_file_to_change_and_the_checkout_has_none() {
    let tools = Tools::find_or_install(true).unwrap();
    let (what, findings) = crate::check(root(), &tools).unwrap();
    assert_eq!(findings, []);
    assert!(what.ends_with("of 7 kustomizations"), "{what}");

    let copy = root().join(format!("target/deploy-check/copy-{}", std::process::id()));
    let script = "mkdir -p $1/docs && cp -r deploy spin.toml $1 && cp docs/operations.md $1/docs
        sed -i 's/maxReplicas: 10/maxReplicas: 100/' $1/deploy/base/autoscaler.yaml
        sed -i 's|path: /readyz|path: /ready|' $1/deploy/overlays/spintainer/app.yaml
        sed -i 's/stage: template/stage: beta/' $1/deploy/overlays/shim/kustomization.yaml";
    let shell = |script| {
        Command::new("sh")
            .args(["-euc", script, "copy"])
            .arg(&copy)
            .current_dir(root())
            .status()
    };
    assert!(shell(script).unwrap().success());
    let (_, findings) = crate::check(&copy, &tools).unwrap();
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    for start in [
        "deploy/base/autoscaler.yaml (in deploy/overlays/deployment): HorizontalPodAutoscaler/orders: spec.maxReplicas",
        "deploy/overlays/spintainer/app.yaml: SpinApp/orders: spec.checks.readiness.httpGet.path: \"/ready\"",
        "deploy/overlays/shim/kustomization.yaml: Kustomization/shim: metadata.annotations.deploy-check/stage: must be",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "nothing says {start}, but:\n{}",
            lines.join("\n")
        );
    }
    let script = "sed -i 's/- stores.yaml/- store.yaml/' $1/deploy/overlays/laptop/kustomization.yaml";
    assert!(shell(script).unwrap().success());
    let error = format!("{:#}", crate::check(&copy, &tools).unwrap_err());
    assert!(
        error.starts_with("deploy/overlays/laptop/kustomization.yaml cannot be rendered"),
        "{error}"
    );
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
        let (edits, says) = match &row[1] {
            Value::Array(edits) => (
                edits.iter().map(|edit| [&edit[0], &edit[1], &edit[2]]).collect(),
                &list[2..],
            ),
            _ => (vec![[&row[1], &row[2], &row[3]]], &list[4..]),
        };
        let (of_files, of_objects) = edits
            .into_iter()
            .partition::<Vec<_>, _>(|[name, ..]| root().join(text(name)).is_file());
        let changed = |name: &str| {
            let mut content = std::fs::read_to_string(root().join(name))?;
            for [_, right, wrong] in of_files.iter().filter(|[file, ..]| *file == name) {
                assert!(content.contains(text(right)), "{right} is not in {name}");
                content = content.replace(text(right), text(wrong));
            }
            Ok(content)
        };
        for [object, path, new] in of_objects {
            let of = overlays.iter_mut().find(|overlay| overlay.folder == folder).unwrap();
            if let Some(mut object) = plant(of, text(object), path, new) {
                // Validators see the object alone, under a name that says which row it is of.
                object.file = format!("row {n}");
                alone.push(Overlay {
                    objects: vec![object],
                    ..of.clone()
                });
            }
        }
        broken.push((row, says, policies::check(&Files::load(changed).unwrap(), &overlays)));
    }
    let of_validators = tools.validate(root(), &alone).unwrap();
    let mut missed = String::new();
    for (n, (row, says, findings)) in broken.into_iter().enumerate() {
        let of_row = of_validators
            .iter()
            .filter(|finding| finding.file == format!("row {n}"));
        let lines: Vec<String> = findings.iter().chain(of_row).map(ToString::to_string).collect();
        let says_it = |line: &String| says.iter().all(|part| line.contains(text(part)));
        let is_right = if says.is_empty() {
            lines.is_empty()
        } else {
            lines.iter().any(says_it)
        };
        if !is_right {
            missed += &format!("{row}\n    {}\n", lines.join("\n    "));
        }
    }
    assert!(missed.is_empty(), "nothing says of these what it must:\n{missed}");
}

/// The image's entrypoint, with a program in Spin's place that prints what it got.
#[test]
fn the_entrypoint_raises_the_limit_of_open_files_and_sets_the_reuse_of_instances() {
    let folder = root().join(format!("target/deploy-check/bin-{}", std::process::id()));
    let script = "mkdir -p $1 && printf '#!/bin/sh\\necho $(ulimit -S -n) \"$@\"\\n' > $1/spin && chmod +x $1/spin
        ulimit -S -n 64 && ulimit -H -n 512
        PATH=$1:$PATH sh deploy/image/entrypoint.sh up --from x
        rm -r $1";
    let output = Command::new("sh")
        .args(["-euc", script, "run"])
        .arg(&folder)
        .current_dir(root())
        .output()
        .unwrap();
    let expected = "512 up --from x --max-instance-reuse-count 128 --max-instance-concurrent-reuse-count 16 \
                    --idle-instance-timeout 1s\n";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
