//! Spin's variables: `SPIN_VARIABLE_<NAME>` from the environment or a file `.env`, defaults, and
//! `{{ templates }}` with them. Implements `spin:variables`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use wasmtime::component::Accessor;

use crate::bindings::spin::variables::variables::{Error, Host, HostWithStore};
use crate::host::{HostState, Spin};
use crate::manifest::Manifest;

/// The application's variables, resolved.
#[derive(Debug, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Resolves all variables of a manifest. `given` are those of the command line and take precedence.
    pub fn resolve(manifest: &Manifest, given: &[(String, String)], folder: &Path) -> Result<Self> {
        let dotenv: HashMap<String, String> = match dotenvy::from_path_iter(folder.join(".env")) {
            Ok(entries) => entries.collect::<Result<_, _>>().context(".env")?,
            Err(_) => HashMap::new(),
        };
        for (name, _) in given {
            ensure!(manifest.variables.contains_key(name), "--variable {name}: the manifest has no such variable");
        }
        let mut resolved = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, variable) in &manifest.variables {
            let env = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
            let value = given
                .iter()
                .find(|(given, _)| given == name)
                .map(|(_, value)| value.clone())
                .or_else(|| std::env::var(&env).ok())
                .or_else(|| dotenv.get(&env).cloned())
                .or_else(|| variable.default.clone());
            match value {
                Some(value) => {
                    resolved.insert(name.clone(), value);
                }
                None if variable.required => missing.push(env),
                None => {}
            }
        }
        ensure!(
            missing.is_empty(),
            "required variables have no value: set {} in the environment or in .env",
            missing.join(" and ")
        );
        Ok(Self(resolved))
    }

    /// Resolves a template.
    pub fn resolve_template(&self, template: &str) -> Result<String> {
        let mut text = String::new();
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once("{{") {
            let (name, tail) = tail.split_once("}}").with_context(|| format!("unmatched {{{{ in {template:?}"))?;
            let name = name.trim();
            let Some(value) = self.0.get(name) else {
                bail!("{template:?}: there is no variable {name}, or it has no value");
            };
            text.push_str(literal);
            text.push_str(value);
            rest = tail;
        }
        text.push_str(rest);
        Ok(text)
    }

    /// Resolves all variables of a component.
    pub fn of_component(&self, templates: &BTreeMap<String, String>) -> Result<Arc<BTreeMap<String, String>>> {
        templates
            .iter()
            .map(|(name, template)| Ok((name.clone(), self.resolve_template(template)?)))
            .collect::<Result<_>>()
            .map(Arc::new)
    }
}

impl Host for HostState {}

impl<T: Send> HostWithStore<T> for Spin {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, Error> {
        let variables = accessor.with(|mut access| access.get().variables.clone());
        variables.get(&name).cloned().ok_or_else(|| Error::Undefined(format!("no variable for this component: {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_resolved() {
        let variables = Variables(BTreeMap::from([("host".into(), "db".into()), ("port".into(), "5432".into())]));
        let fill = |template| variables.resolve_template(template);
        assert_eq!(fill("plain").expect("valid"), "plain");
        assert_eq!(fill("postgres://{{host}}:{{ port }}/x").expect("valid"), "postgres://db:5432/x");
        assert!(fill("{{ other }}").is_err());
        assert!(fill("{{ host").is_err());
    }
}
