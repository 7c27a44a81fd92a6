//! Requests to the Kubernetes API, enough to set a scene: apply, patch a status, read, delete.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::{Request, Response};

/// A user of one API server.
#[derive(Debug)]
pub struct Client {
    base: String,
    token: String,
    certificates: PathBuf,
    /// By `apiVersion/kind`; asked once, as kubectl does.
    resources: Mutex<HashMap<String, Resource>>,
}

/// What discovery tells of a kind.
#[derive(Debug, Clone)]
struct Resource {
    /// `/api/v1` or `/apis/GROUP/VERSION`
    prefix: String,
    plural: String,
    namespaced: bool,
}

impl Client {
    pub(crate) fn new(port: u16, token: &str, certificates: &Path) -> Self {
        Self {
            base: format!("https://127.0.0.1:{port}"),
            token: token.to_owned(),
            certificates: certificates.to_owned(),
            resources: Mutex::default(),
        }
    }

    /// Makes an object or changes it to what is given (a server-side apply), and gives it as it is then.
    ///
    /// # Errors
    ///
    /// If a field that names the object is missing, or if the API refuses.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let url = format!("{}?fieldManager=wirecall-test&force=true", self.path(object)?);
        self.send("PATCH", &url, Some(("application/apply-patch+yaml", object)))?.json().with_context(|| url)
    }

    /// Applies each document of a YAML text (JSON is YAML).
    ///
    /// The text goes to the server as it is; only its `apiVersion`, `kind` and `metadata` lines are read here,
    /// in block style, as `kubectl` and people write them.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_yaml(&self, text: &str) -> Result<Vec<Value>> {
        let documents = text.split("\n---").map(str::trim).filter(|document| !document.is_empty());
        documents.map(|document| self.apply_document(document)).collect()
    }

    /// Merges `status` into the object's status, through the status subresource as a kubelet or controller does.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn set_status(&self, object: &Value, status: &Value) -> Result<Value> {
        let url = format!("{}/status", self.path(object)?);
        let patch = json!({ "status": status });
        self.send("PATCH", &url, Some(("application/merge-patch+json", &patch)))?.json().with_context(|| url)
    }

    /// The object of this kind, namespace and name as it is now.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn read(&self, object: &Value) -> Result<Value> {
        let path = self.path(object)?;
        self.get(&path)?.json().context(path)
    }

    /// Deletes an object at once, without the time that a kubelet would take to end a pod.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let path = self.path(object)?;
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        self.send("DELETE", &path, Some(("application/json", &options)))?.json().context(path)?;
        Ok(())
    }

    /// GET of any path (`/api/v1/pods?limit=5`), whatever the status.
    ///
    /// # Errors
    ///
    /// If there is no response.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path, None)
    }

    fn send(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Response> {
        self.send_text(method, path, body.map(|(media_type, value)| (media_type, value.to_string())))
    }

    fn send_text(&self, method: &str, path: &str, body: Option<(&str, String)>) -> Result<Response> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::new(method, &url)
            .header("Authorization", &format!("Bearer {}", self.token))
            .header("Accept", "application/json")
            .trust(&self.certificates);
        if let Some((media_type, body)) = body {
            request = request.body(media_type, body);
        }
        request.send()
    }

    fn apply_document(&self, document: &str) -> Result<Value> {
        if let Ok(object) = serde_json::from_str::<Value>(document) {
            return self.apply(&object);
        }
        let url = format!("{}?fieldManager=wirecall-test&force=true", self.path(&identity(document))?);
        let body = Some(("application/apply-patch+yaml", document.to_owned()));
        self.send_text("PATCH", &url, body)?.json().with_context(|| url)
    }

    /// The object's place in the API.
    fn path(&self, object: &Value) -> Result<String> {
        let version = field(object, "/apiVersion")?;
        let kind = field(object, "/kind")?;
        let name = field(object, "/metadata/name")?;
        let Resource { prefix, plural, namespaced } = self.resource(version, kind)?;
        if !namespaced {
            return Ok(format!("{prefix}/{plural}/{name}"));
        }
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        Ok(format!("{prefix}/namespaces/{namespace}/{plural}/{name}"))
    }

    fn resource(&self, version: &str, kind: &str) -> Result<Resource> {
        let key = format!("{version}/{kind}");
        if let Some(known) = self.resources.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let found = self.discover(version, kind)?;
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }

    fn discover(&self, version: &str, kind: &str) -> Result<Resource> {
        let prefix =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let list = self.get(&prefix)?.json().with_context(|| prefix.clone())?;
        let resources = list["resources"].as_array().context("discovery without resources")?;
        for resource in resources {
            let plural = resource["name"].as_str().unwrap_or_default();
            // Subresources have the kind of their parent and a slash in the name.
            if resource["kind"] == kind && !plural.contains('/') {
                let namespaced = resource["namespaced"] == true;
                return Ok(Resource { prefix, plural: plural.to_owned(), namespaced });
            }
        }
        bail!("the API has no kind {kind} in {version}")
    }
}

fn field<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).with_context(|| format!("the object has no {pointer}"))
}

/// The lines of a block-style document that say which object it is.
fn identity(document: &str) -> Value {
    let mut object = json!({"metadata": {}});
    let mut in_metadata = false;
    let mut indent = None;
    for line in document.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        let Some((key, value)) = text.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if depth == 0 {
            in_metadata = key == "metadata";
            if key == "apiVersion" || key == "kind" {
                object[key] = value.into();
            }
        } else if in_metadata
            && depth == *indent.get_or_insert(depth)
            && (key == "name" || key == "namespace")
        {
            object["metadata"][key] = value.into();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_tells_which_object_it_is() {
        let text = "apiVersion: apps/v1\nkind: Deployment # the usual\nmetadata:\n  labels:\n    name: other\n  \
                    name: \"web\"\n  namespace: shop\nspec:\n  name: none\n";
        assert_eq!(
            identity(text),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}})
        );
    }
}
