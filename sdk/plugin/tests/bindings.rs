//! The bindings kept in the source speak the contract of `sdk/wit`: the type that they give every component is the one
//! that the contract's text describes.

use wit_component::{OutputToString, WitPrinter};
use wit_parser::decoding::decode_world;
use wit_parser::{Resolve, WorldId};

#[test]
fn bindings_are_those_of_the_contract() {
    let mut contract = Resolve::default();
    let package = contract.push_str("plugin.wit", include_str!("../../wit/plugin.wit")).unwrap();
    let world = contract.select_world(&[package], Some("plugin")).unwrap();
    let (generated, generated_world) = decode_world(&component_type(include_str!("../src/bindings.in"))).unwrap();
    assert_eq!(
        shown(&generated, generated_world),
        shown(&contract, world),
        "generate bindings.in anew: see src/wasm.rs"
    );
}

/// The bytes of the first custom section, which is that of the whole world.
fn component_type(bindings: &str) -> Vec<u8> {
    let (_, text) = bindings.split_once("*\n        b\"").expect("the exports' macro holds the section");
    let (text, _) = text.split_once("\";").expect("the section ends");
    syn::parse_str::<syn::LitByteStr>(&format!("b\"{text}\"")).expect("a literal").value()
}

fn shown(resolve: &Resolve, world: WorldId) -> String {
    let package = resolve.worlds[world].package.expect("a world belongs to a package");
    let mut printer = WitPrinter::new(OutputToString::default());
    printer.emit_docs(false);
    printer.print(resolve, package, &[]).expect("a package prints");
    printer.output.to_string()
}
