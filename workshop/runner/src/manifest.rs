//! Reads `spin.toml`. A manifest with anything that this runner does not support is rejected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::sqlite::DEFAULT;

/// A manifest, version 2.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    spin_manifest_version: u32,
    /// `[application]`
    pub application: Application,
    /// The application's variables.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    trigger: Triggers,
    /// The components, by id.
    pub component: BTreeMap<String, Component>,
}

/// `[application]`
#[derive(Debug, Deserialize)]
pub struct Application {
    /// The application's name.
    pub name: String,
}

/// One of `[variables]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The value if none is given.
    pub default: Option<String>,
    /// Whether a missing value is an error.
    #[serde(default)]
    pub required: bool,
    /// Whether the value must not be shown. This runner shows no values.
    #[serde(default, rename = "secret")]
    pub _secret: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTrigger {
    route: String,
    component: String,
    #[serde(default, rename = "id")]
    _id: Option<String>,
}

/// `[component.<id>]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The path of the Wasm file, relative to the manifest.
    pub source: PathBuf,
    /// What the component may connect to.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// The component's variables: templates with the application's variables.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The SQLite databases that it may open, by name.
    #[serde(default)]
    pub sqlite_databases: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, rename = "build")]
    _build: Option<toml::Value>,
    #[serde(default, rename = "profile")]
    _profile: Option<toml::Value>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// A route and the component that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// As written in the manifest.
    pub raw: String,
    /// The path, without the wildcard.
    pub prefix: String,
    /// Whether all paths below it match as well.
    pub wildcard: bool,
    /// The component's id.
    pub component: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} has something that this runner does not support; use Spin for it", path.display())
        })
    }

    fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        ensure!(manifest.spin_manifest_version == 2, "spin_manifest_version must be 2");
        let mut databases = manifest.component.values().flat_map(|c| &c.sqlite_databases);
        ensure!(
            databases.all(|name| name == DEFAULT),
            "the only SQLite database without a runtime configuration is \"{DEFAULT}\""
        );
        manifest.routes()?;
        Ok(manifest)
    }

    /// The routes of all triggers.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.trigger.http.iter().map(|t| self.route(t)).collect()
    }

    fn route(&self, trigger: &HttpTrigger) -> Result<Route> {
        let HttpTrigger { route, component, .. } = trigger;
        ensure!(self.component.contains_key(component), "route {route}: there is no component {component}");
        // Slashes at the ends do not count, as in Spin.
        let path = format!("/{}", route.trim_matches('/'));
        let (prefix, wildcard) = match path.strip_suffix("/...") {
            Some(prefix) => (prefix, true),
            None => (path.as_str(), false),
        };
        if prefix.contains([':', '*']) {
            bail!("route {route}: only a trailing /... is supported as a wildcard");
        }
        Ok(Route { raw: route.clone(), prefix: prefix.to_owned(), wildcard, component: component.clone() })
    }
}

/// The route for a path, as in Spin: exact before wildcard, longer before shorter; slashes at the ends of a path do not
/// count.
pub fn best_route<'r>(routes: &'r [Route], path: &str) -> Option<&'r Route> {
    let path = format!("/{}", path.trim_matches('/'));
    routes
        .iter()
        .filter(|route| {
            path == route.prefix
                || route.wildcard && path.strip_prefix(&route.prefix).is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|route| (!route.wildcard, route.prefix.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        spin_manifest_version = 2
        [application]
        name = "a"
        version = "1.0.0"
        [variables]
        url = { required = true, secret = true }
        [[trigger.http]]
        route = "/..."
        component = "all"
        [[trigger.http]]
        route = "/one"
        component = "one"
        [[trigger.http]]
        route = "/one/..."
        component = "below"
        [[trigger.http]]
        route = "/one/file.json/"
        component = "one"
        [[trigger.http]]
        route = "/one/two/..."
        component = "two"
        [[trigger.http]]
        route = "/"
        component = "root"
        [component.all]
        source = "a.wasm"
        [component.one]
        source = "a.wasm"
        [component.one.build]
        command = "true"
        [component.below]
        source = "a.wasm"
        [component.two]
        source = "a.wasm"
        [component.root]
        source = "a.wasm"
    "#;

    #[test]
    fn routes_are_matched_as_spin_does() {
        let manifest = Manifest::parse(GOOD).expect("valid");
        let routes = manifest.routes().expect("valid");
        let at = |path| best_route(&routes, path).map(|r| r.component.as_str());
        for (path, component) in [
            ("/", "root"),
            ("//", "root"),
            ("/one", "one"),
            ("/one/", "one"),
            ("//one", "one"),
            ("/one/more", "below"),
            ("/one//", "one"),
            ("/one/file.json", "one"),
            ("/one/file.json/", "one"),
            ("/one/file.json/more", "below"),
            ("/one/two", "two"),
            ("/one/two/", "two"),
            ("/one/two/three", "two"),
            ("/one/twofold", "below"),
            ("/onemore", "all"),
            ("/ONE", "all"),
        ] {
            assert_eq!(at(path), Some(component), "{path}");
        }
        let sparse = [routes[4].clone()];
        assert_eq!(best_route(&sparse, "/one"), None);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for (old, new) in [
            ("source = \"a.wasm\"", "source = \"a.wasm\"\nfiles = [\"x\"]"),
            ("source = \"a.wasm\"", "source = \"a.wasm\"\nsqlite_databases = [\"other\"]"),
            ("spin_manifest_version = 2", "spin_manifest_version = 1"),
            ("route = \"/one\"", "route = \"/:id\""),
            ("component = \"one\"", "component = \"none\""),
            ("[[trigger.http]]", "[[trigger.redis]]"),
        ] {
            assert!(Manifest::parse(&GOOD.replacen(old, new, 1)).is_err(), "{new}");
        }
    }
}
