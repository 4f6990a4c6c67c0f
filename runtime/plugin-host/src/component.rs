//! Components as files: made from a core module, looked into without running or compiling them, and the
//! manifest they carry in a custom section.

use serde::{Deserialize, Serialize};
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

use crate::failure::LoadError;

/// Name of the custom section that holds the [`Manifest`] as JSON.
pub const MANIFEST_SECTION: &str = "millstream:plugin";

/// The package whose interfaces every plugin may import.
const OWN_PACKAGE: &str = "millstream:plugin/";

/// What a plugin says about itself. Components of other toolchains may lack it: all fields are then
/// empty, and whoever uploads gives name and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub description: String,
    /// Names of its outputs beside the main one.
    pub outputs: Vec<String>,
    /// Capabilities it asks for beside the plugin contract itself.
    pub asks: Vec<String>,
    /// The SDK it was built with, as `name version`.
    pub sdk: String,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    CoreModule,
    Component,
}

/// What can be read from a file without compiling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub kind: Kind,
    pub bytes: usize,
    pub manifest: Option<Manifest>,
    /// Imports of the component other than types, as written: `millstream:plugin/host@0.1.0`.
    pub imports: Vec<String>,
    /// Exports of the component.
    pub exports: Vec<String>,
}

impl Inspection {
    /// Imports beyond the plugin contract, without versions, each once.
    pub fn foreign_imports(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for import in &self.imports {
            let name = import.split('@').next().unwrap_or(import);
            if !name.starts_with(OWN_PACKAGE) && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Looks into a component.
///
/// # Errors
/// [`LoadError::NotWasm`], [`LoadError::Invalid`] when its structure is broken, and
/// [`LoadError::BadManifest`]. A core module is no error: `kind` tells.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm { found: describe(bytes) });
    }
    let mut found = Inspection {
        kind: Kind::Component,
        bytes: bytes.len(),
        manifest: None,
        imports: Vec::new(),
        exports: Vec::new(),
    };
    // Modules and components inside have imports and exports of their own, which are not the plugin's.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| broken(&error))? {
            Payload::Version { encoding, .. } if depth == 0 => {
                if encoding == Encoding::Module {
                    found.kind = Kind::CoreModule;
                }
                depth = 1;
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.map_err(|error| broken(&error))?;
                    // A type is a name for a shape, nothing that a guest could use.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        found.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    found.exports.push(export.map_err(|error| broken(&error))?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if depth == 1 && section.name() == MANIFEST_SECTION => {
                found.manifest = Some(parse_manifest(section.data())?);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Makes a component of a core module built for `wasm32-unknown-unknown` against the plugin world, with
/// `manifest` in it.
///
/// # Errors
/// [`LoadError::NotWasm`], or [`LoadError::Invalid`] with wit-component's words when the module was not
/// built against the world or imports something else.
pub fn componentize(core_module: &[u8], manifest: &Manifest) -> Result<Vec<u8>, LoadError> {
    if !core_module.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm { found: describe(core_module) });
    }
    let component = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(core_module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| LoadError::Invalid { message: format!("{error:#}") })?;
    Ok(with_manifest(component, manifest))
}

/// Puts `manifest` into a component that another toolchain made without one.
pub fn with_manifest(component: Vec<u8>, manifest: &Manifest) -> Vec<u8> {
    let mut component = component;
    let json = serde_json::to_vec(manifest).expect("a manifest is plain strings");
    append_custom_section(&mut component, MANIFEST_SECTION, &json);
    component
}

/// Sections may follow each other in any number at the end of a component: id 0, size, name, data.
fn append_custom_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut body = Vec::with_capacity(data.len() + name.len() + 5);
    push_leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    component.push(0);
    push_leb128(component, body.len());
    component.extend_from_slice(&body);
}

fn push_leb128(into: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn parse_manifest(data: &[u8]) -> Result<Manifest, LoadError> {
    serde_json::from_slice(data).map_err(|error| LoadError::BadManifest { message: error.to_string() })
}

fn broken(error: &wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Invalid { message: error.to_string() }
}

/// What the bytes look like, for someone who picked the wrong file.
fn describe(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(&bytes[..bytes.len().min(256)]).unwrap_or_default().trim_start();
    match bytes {
        [] => "the file is empty".into(),
        _ if text.starts_with("(component") || text.starts_with("(module") => {
            "it is WebAssembly text, convert it to the binary format first".into()
        }
        [0x1f, 0x8b, ..] => "it is compressed with gzip".into(),
        [0x7f, b'E', b'L', b'F', ..] => "it is a native program or library".into(),
        _ => "it does not begin with \"\\0asm\"".into(),
    }
}
