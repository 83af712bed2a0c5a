//! A removed row as its archive has it.

use pgrx::{Uuid, pg_sys};

use crate::archive::columns::HEAD;
use crate::archive::row_memory::RowMemory;
use crate::archive::source::{Source, Stored};
use crate::call::trigger_row::{Image, Row};

/// What an archived row begins with, as it is stored: the deletion, the row's number in it, and its layout.
///
/// It has a multiple of the largest alignment, so what follows can be copied as it is in the source.
pub type Head = [u8; 24];

/// Most columns that a table can have.
const MOST_COLUMNS: usize = pg_sys::MaxHeapAttributeNumber as usize;

/// The head of a row.
pub fn head(deletion: Uuid, number: i32, layout: i32) -> Head {
    let mut head = [0; 24];
    let (id, numbers) = head.split_at_mut(16);
    let (first, second) = numbers.split_at_mut(4);
    id.copy_from_slice(deletion.as_bytes());
    first.copy_from_slice(&number.to_ne_bytes());
    second.copy_from_slice(&layout.to_ne_bytes());
    head
}

/// The row that the archive gets. Takes memory in the current context.
pub fn archived(
    source: &Source,
    row: Row<'_>,
    head: &Head,
    memory: &mut RowMemory,
) -> pg_sys::HeapTuple {
    if let Some(tuple) = copied(source, &row.image(), head, memory) {
        return tuple;
    }
    let tuple = formed(source, &row.values(), head);
    memory.adopt(tuple);
    tuple
}

/// Which columns of an archived row are not NULL.
struct NotNull {
    bits: [u8; MOST_COLUMNS.div_ceil(8)],
    count: usize,
}

impl NotNull {
    fn add(&mut self, place: usize) {
        if let Some(byte) = self.bits.get_mut(place / 8) {
            *byte |= 1 << (place % 8);
            self.count += 1;
        }
    }

    /// Those of the archived row; `None` where the source stores a value that the archive does not keep.
    fn of(source: &Source, image: &Image<'_>) -> Option<Self> {
        let mut found = Self {
            bits: [0; MOST_COLUMNS.div_ceil(8)],
            count: 0,
        };
        (0..HEAD.len()).for_each(|place| found.add(place));
        for (number, column) in source.columns.iter().enumerate() {
            match (column.place, image.is_null(number)) {
                (Some(place), false) => found.add(place),
                (None, false) => return None,
                (_, true) => {}
            }
        }
        Some(found)
    }
}

/// The row, of values that are copied all at once as they are stored. `None` where that cannot be: where a value is stored
/// outside of the row, where the row is older than a column, or where the columns have another order.
fn copied(
    source: &Source,
    image: &Image<'_>,
    head: &Head,
    memory: &mut RowMemory,
) -> Option<pg_sys::HeapTuple> {
    if !source.keeps_order || image.has_external || image.columns != source.columns.len() {
        return None;
    }
    let has_all = image.nulls.is_none() && source.width == HEAD.len() + source.columns.len();
    let not_null = if has_all {
        None
    } else {
        Some(NotNull::of(source, image)?).filter(|some| some.count < source.width)
    };
    let bitmap = match &not_null {
        Some(not_null) => not_null.bits.get(..source.width.div_ceil(8))?,
        None => &[],
    };
    let begin = std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits) + bitmap.len();
    let begin = begin.next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize);
    let length = begin + head.len() + image.data.len();
    let mut mask = image.width_flag;
    if !bitmap.is_empty() {
        mask |= pg_sys::HEAP_HASNULL as u16;
    }
    let place =
        size_of::<pg_sys::HeapTupleData>().next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize);
    let start = memory.room(place + length);
    // SAFETY: there is room for the tuple, a header, the bitmap and the values, aligned as `heap_form_tuple` has them.
    unsafe {
        let header = start.add(place);
        std::ptr::write_bytes(header, 0, begin);
        let fields = header.cast::<pg_sys::HeapTupleHeaderData>();
        (*fields).t_infomask = mask;
        (*fields).t_infomask2 = u16::try_from(source.width).ok()?;
        (*fields).t_hoff = u8::try_from(begin).ok()?;
        let bits = (&raw mut (*fields).t_bits).cast::<u8>();
        std::ptr::copy_nonoverlapping(bitmap.as_ptr(), bits, bitmap.len());
        let values = header.add(begin);
        std::ptr::copy_nonoverlapping(head.as_ptr(), values, head.len());
        let rest = values.add(head.len());
        std::ptr::copy_nonoverlapping(image.data.as_ptr(), rest, image.data.len());
        let tuple = start.cast::<pg_sys::HeapTupleData>();
        tuple.write(pg_sys::HeapTupleData {
            t_len: u32::try_from(length).ok()?,
            t_self: pg_sys::ItemPointerData::default(),
            t_tableOid: pg_sys::InvalidOid,
            t_data: fields,
        });
        Some(tuple)
    }
}

/// The row, made of its values, in the current memory.
fn formed(source: &Source, values: &[Option<pg_sys::Datum>], head: &Head) -> pg_sys::HeapTuple {
    let (id, numbers) = head.split_at(16);
    let mut datums = vec![pg_sys::Datum::from(0_usize); source.width];
    let mut nulls = vec![true; source.width];
    let mut put = |place: usize, value: pg_sys::Datum| {
        if let (Some(datum), Some(null)) = (datums.get_mut(place), nulls.get_mut(place)) {
            (*datum, *null) = (value, false);
        }
    };
    put(0, pg_sys::Datum::from(id.as_ptr()));
    for (place, number) in (1..).zip(numbers.as_chunks::<4>().0) {
        put(place, pg_sys::Datum::from(i32::from_ne_bytes(*number)));
    }
    let mut fetched = Vec::new();
    for (column, value) in source.columns.iter().zip(values) {
        if let (Some(place), Some(value)) = (column.place, *value) {
            put(place, inside(*column, value, &mut fetched));
        }
    }
    // SAFETY: one value and one flag for each column of the shape, each of the column's type: the archive's column has the
    // type of the source's. The tuple is a copy.
    unsafe {
        let tuple =
            pg_sys::heap_form_tuple(source.shape(), datums.as_mut_ptr(), nulls.as_mut_ptr());
        for value in fetched {
            pg_sys::pfree(value);
        }
        tuple
    }
}

/// A value that is stored outside of its row is fetched: the table may be gone before the row is written.
fn inside(
    column: Stored,
    value: pg_sys::Datum,
    fetched: &mut Vec<*mut std::ffi::c_void>,
) -> pg_sys::Datum {
    // SAFETY: a value of a type of variable length, which is a pointer to it.
    unsafe {
        let pointer = value.cast_mut_ptr::<pg_sys::varlena>();
        if column.may_be_external && pgrx::varatt_is_1b_e(pointer) {
            let here = pg_sys::detoast_external_attr(pointer);
            fetched.push(here.cast());
            return pg_sys::Datum::from(here);
        }
    }
    value
}
