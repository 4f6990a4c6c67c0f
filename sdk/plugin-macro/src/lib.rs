//! `#[transform]`: keeps a function as it is, and adds the component's exports when the crate is built for
//! WebAssembly. The exports themselves are `__export_transform!` of millstream-plugin, so that nothing a
//! user's crate expands to needs `unsafe` to be allowed there.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, ReturnType};

const SHAPE: &str = "a transform is `fn name(record: Record, config: &Config, out: &mut Output) -> Result<()>`, \
                     the configuration may be left out";

/// Makes a function the plugin's transform: `fn(Record, &Config, &mut Output) -> Result<()>`, or the same
/// without a configuration. `Config` is any type that implements `Deserialize` and owns its data; it is
/// read from the step's `with`. A crate has one transform.
#[proc_macro_attribute]
pub fn transform(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let expanded = expand(arguments.into(), item.clone().into());
    expanded
        .unwrap_or_else(|error| {
            // The function stays, so that the only error is the one that tells what is wrong.
            let (error, item) = (error.to_compile_error(), TokenStream::from(item));
            quote!(#error #item)
        })
        .into()
}

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), "`#[transform]` takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;
    let name = &function.sig.ident;
    Ok(quote! {
        #function

        const _: () = ::millstream_plugin::__private::check(&#name);

        #[cfg(target_family = "wasm")]
        ::millstream_plugin::__export_transform!(#name);
    })
}

/// What can be said about the signature before types are known; the rest is `Transform`'s to say.
fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new(asyncness.span(), "a transform is not async: it has nothing to wait for"));
    }
    if signature.generics.type_params().next().is_some() {
        return Err(Error::new(signature.generics.span(), "a transform has no type parameters"));
    }
    if !(2..=3).contains(&signature.inputs.len()) {
        return Err(Error::new(signature.inputs.span(), SHAPE));
    }
    if matches!(signature.output, ReturnType::Default) {
        return Err(Error::new(signature.ident.span(), SHAPE));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_functions_are_told_what_is_wrong() {
        let check = |item: TokenStream, expected: &str| {
            let error = expand(TokenStream::new(), item).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(
            quote!(
                async fn f(r: Record, out: &mut Output) -> Result<()> {
                    Ok(())
                }
            ),
            "not async",
        );
        check(
            quote!(
                fn f<T>(r: T, out: &mut Output) -> Result<()> {
                    Ok(())
                }
            ),
            "no type parameters",
        );
        check(
            quote!(
                fn f(r: Record) -> Result<()> {
                    Ok(())
                }
            ),
            "a transform is",
        );
        check(
            quote!(
                fn f(r: Record, out: &mut Output) {}
            ),
            "a transform is",
        );
        check(
            quote!(
                struct S;
            ),
            "expected `fn`",
        );
        let error = expand(
            quote!(x = 1),
            quote!(
                fn f() {}
            ),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "`#[transform]` takes no arguments");
    }
}
