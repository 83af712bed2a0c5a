//! Arguments that are read without raising an internal error, whatever is sent.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use serde_json::Value;

use crate::model::error::{Failure, Outcome, raise_unless_ok};

/// A table, by its OID alone: whether there is one is for whoever looks it up to say.
#[derive(Clone, Copy, Debug)]
pub struct Regclass(pg_sys::Oid);

impl Regclass {
    /// The OID.
    pub fn oid(self) -> pg_sys::Oid {
        self.0
    }
}

pgrx::impl_sql_translatable!(Regclass, "regclass");

// SAFETY: the argument is declared as a regclass, which is an OID.
unsafe impl<'fcx> ArgAbi<'fcx> for Regclass {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: see above.
        let oid = unsafe { arg.unbox_arg_using_from_datum::<pg_sys::Oid>() };
        Self(oid.unwrap_or(pg_sys::InvalidOid))
    }
}

/// A jsonb. PostgreSQL takes numbers and nesting that the parser here does not.
#[derive(Debug)]
pub struct Jsonb(pub Value);

pgrx::impl_sql_translatable!(Jsonb, "jsonb");

// SAFETY: the argument is declared as a jsonb.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(arg.unbox_arg_using_from_datum::<pg_sys::Datum>()) }
    }
}

impl Jsonb {
    /// An argument of a call that pgrx has not unpacked; `None` where it is NULL.
    ///
    /// # Safety
    /// PostgreSQL has made the call, and its argument `number` is a jsonb.
    pub unsafe fn of_call(call: pg_sys::FunctionCallInfo, number: usize) -> Option<Self> {
        // SAFETY: the caller's promise.
        let datum = unsafe { pgrx::pg_getarg_datum(call, number) }?;
        // SAFETY: the caller's promise.
        Some(unsafe { Self::of(Some(datum)) })
    }

    /// # Safety
    /// The datum is a jsonb, if it is one.
    unsafe fn of(datum: Option<pg_sys::Datum>) -> Self {
        // SAFETY: the caller's promise; the text that a jsonb prints as is in the memory of the call.
        let text: Option<&CStr> =
            unsafe { pgrx::fcinfo::direct_function_call(pg_sys::jsonb_out, &[datum]) };
        Self(raise_unless_ok(parse(text.unwrap_or(c"null"))))
    }
}

fn parse(text: &CStr) -> Outcome<Value> {
    serde_json::from_slice(text.to_bytes()).map_err(|error| Failure::BadArgument {
        what: format!("cannot read the JSON: {error}"),
        fix: "Pass values that are less deeply nested and numbers within the range of numeric."
            .into(),
    })
}
