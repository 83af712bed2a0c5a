//! A row of a trigger's call, and typed values of it.

use pgrx::datum::DatumWithOid;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{FromDatum, IntoDatum, Uuid, pg_sys};

use crate::model::error::{Failure, Outcome};
use crate::model::row_id::RowId;

/// A row in the shape of its table. It and its values live as long as the trigger's call.
#[derive(Clone, Copy, Debug)]
pub struct Row<'call> {
    tuple: &'call pg_sys::HeapTupleData,
    shape: &'call pg_sys::TupleDescData,
}

/// A row as it is stored: its values without their types, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Image<'call> {
    /// How many columns it has; fewer than its table, if those were added later.
    pub columns: usize,
    /// A bit for each column, set where it is not NULL; `None` where none is.
    pub nulls: Option<&'call [u8]>,
    /// The values. They begin at a place that is aligned for every type.
    pub data: &'call [u8],
    /// Whether a value is stored outside of the row.
    pub has_external: bool,
    /// `HEAP_HASVARWIDTH`, where it has a value of a type without a fixed width; else 0.
    pub width_flag: u16,
}

impl Image<'_> {
    /// Whether a column, counted from 0, is NULL.
    pub fn is_null(&self, column: usize) -> bool {
        self.nulls.is_some_and(|bits| {
            bits.get(column / 8)
                .is_none_or(|byte| byte & (1 << (column % 8)) == 0)
        })
    }
}

/// The columns that mark a row as deleted, found to be of their types in this very row's shape.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'call> {
    row: Row<'call>,
    numbers: [i32; 2],
}

impl<'call> Row<'call> {
    /// One of the tuples of a trigger's call; `None` where there is none.
    pub fn of_trigger(data: &'call pg_sys::TriggerData, tuple: pg_sys::HeapTuple) -> Option<Self> {
        // SAFETY: the tuples that a call brings are NULL or rows of its relation, which is open, and
        // so is its descriptor there; all of it is PostgreSQL's until the call ends.
        unsafe { Self::of_relation(data.tg_relation.as_ref()?, tuple) }
    }

    /// A tuple of an open relation; `None` where it is NULL.
    ///
    /// # Safety
    /// The tuple is NULL or one of the relation's, and stays valid as long as the relation is borrowed.
    pub unsafe fn of_relation(
        relation: &'call pg_sys::RelationData,
        tuple: pg_sys::HeapTuple,
    ) -> Option<Self> {
        // SAFETY: as the caller promises; an open relation has a descriptor.
        unsafe {
            Some(Self {
                tuple: tuple.as_ref()?,
                shape: relation.rd_att.as_ref()?,
            })
        }
    }

    fn tuple(self) -> pg_sys::HeapTuple {
        std::ptr::from_ref(self.tuple).cast_mut()
    }

    fn shape(self) -> pg_sys::TupleDesc {
        std::ptr::from_ref(self.shape).cast_mut()
    }

    /// The tuple, to be handed back to PostgreSQL.
    pub fn into_tuple(self) -> pg_sys::HeapTuple {
        self.tuple()
    }

    /// Where the row is.
    pub fn address(self) -> RowId {
        RowId::new(self.tuple.t_tableOid, self.tuple.t_self)
    }

    /// Whether it was not removed but moved on, to another partition.
    /// <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/access/htup_details.h>
    /// (`HeapTupleHeaderIndicatesMovedPartitions`)
    pub fn moved_on(self) -> bool {
        const MOVED: u16 = 0xfffd;
        // SAFETY: a tuple has a header.
        let place = unsafe { (*self.tuple.t_data).t_ctid };
        let block = (u32::from(place.ip_blkid.bi_hi) << 16) | u32::from(place.ip_blkid.bi_lo);
        place.ip_posid == MOVED && block == pg_sys::InvalidBlockNumber
    }

    /// How it is stored.
    /// <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/access/htup_details.h>
    pub fn image(self) -> Image<'call> {
        // SAFETY: a tuple has a header, a bitmap if the header says so, and `t_len` bytes in all; nobody changes them as long
        // as the row lives.
        unsafe {
            let header = self.tuple.t_data;
            let mask = u32::from((*header).t_infomask);
            let columns = usize::from((*header).t_infomask2) & pg_sys::HEAP_NATTS_MASK as usize;
            let bits = (&raw const (*header).t_bits).cast::<u8>();
            let begin = usize::from((*header).t_hoff);
            let length = self.tuple.t_len as usize - begin;
            let data = header.cast::<u8>().add(begin);
            Image {
                columns,
                nulls: (mask & pg_sys::HEAP_HASNULL != 0)
                    .then(|| std::slice::from_raw_parts(bits, columns.div_ceil(8))),
                data: std::slice::from_raw_parts(data, length),
                has_external: mask & pg_sys::HEAP_HASEXTERNAL != 0,
                width_flag: (mask & pg_sys::HEAP_HASVARWIDTH) as u16,
            }
        }
    }

    /// How many columns its table has, those dropped included.
    pub fn width(self) -> usize {
        usize::try_from(self.shape.natts).unwrap_or(0)
    }

    /// All its values as they are stored, one for each column, those dropped included; `None` for NULL.
    pub fn values(self) -> Vec<Option<pg_sys::Datum>> {
        let count = self.width();
        let mut datums = vec![pg_sys::Datum::from(0_usize); count];
        let mut nulls = vec![true; count];
        // SAFETY: the row has this shape, and the arrays a place for each of its columns.
        unsafe {
            pg_sys::heap_deform_tuple(
                self.tuple(),
                self.shape(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        let values = datums.into_iter().zip(nulls);
        values
            .map(|(datum, null)| (!null).then_some(datum))
            .collect()
    }

    /// The type of the column with this number; `None` where there is none, or no longer.
    fn type_of(self, number: i32) -> Option<pg_sys::Oid> {
        // SAFETY: the descriptor is valid as long as the row is, and is not released here.
        let shape = unsafe { PgTupleDesc::from_pg_unchecked(self.shape()) };
        let column = shape.get(usize::try_from(number - 1).ok()?)?;
        (!column.attisdropped).then_some(column.atttypid)
    }

    /// The number and the type of the column with this name.
    pub fn column(self, name: &str) -> Option<(i32, pg_sys::Oid)> {
        // SAFETY: the descriptor is valid as long as the row is, and is not released here.
        let shape = unsafe { PgTupleDesc::from_pg_unchecked(self.shape()) };
        let found = shape
            .iter()
            .find(|column| !column.attisdropped && column.name() == name)?;
        Some((i32::from(found.attnum), found.atttypid))
    }

    /// The value of a column that is of this type, `Some(None)` for NULL; `None` where it is of another by now.
    pub fn value_of(self, (number, type_oid): (i32, pg_sys::Oid)) -> Option<Option<pg_sys::Datum>> {
        (self.type_of(number)? == type_oid).then(|| self.datum(number))
    }

    /// A value as it is stored; `None` for NULL.
    fn datum(self, number: i32) -> Option<pg_sys::Datum> {
        let mut is_null = true;
        // SAFETY: the row has this shape; a number that is none of its columns' gives NULL.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple(), self.shape(), number, &raw mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A value of a column, as an argument of the column's own type.
    ///
    /// # Errors
    /// 55000 when the row has no such column.
    pub fn argument(self, name: &str) -> Outcome<DatumWithOid<'call>> {
        let (number, type_oid) = self.column(name).ok_or_else(|| Failure::ColumnGone {
            column: name.to_owned(),
        })?;
        Ok(self.datum(number).map_or_else(
            || DatumWithOid::null_oid(type_oid),
            // SAFETY: value and type are those of one column of one row, which outlives the argument.
            |datum| unsafe { DatumWithOid::new(datum, type_oid) },
        ))
    }

    /// A value of a column of this type; `None` for NULL, and where the row has no such column.
    fn read<T: FromDatum + IntoDatum>(self, number: i32) -> Option<T> {
        if self.type_of(number)? != T::type_oid() {
            return None;
        }
        // SAFETY: the column is of the type that it is read as.
        unsafe { T::from_datum(self.datum(number)?, false) }
    }

    /// The value of a column of the type text where texts are equal when their bytes are; `None` where the row has no such column.
    pub fn text_by_bytes(self, name: &str) -> Option<Option<String>> {
        let (number, type_oid) = self.column(name)?;
        (type_oid == pg_sys::TEXTOID && self.compares_bytes(number)).then(|| self.read(number))
    }

    /// Whether the collation of the column with this number is deterministic.
    fn compares_bytes(self, number: i32) -> bool {
        // SAFETY: the descriptor is valid as long as the row is, and is not released here.
        let shape = unsafe { PgTupleDesc::from_pg_unchecked(self.shape()) };
        let column = usize::try_from(number - 1).ok();
        column
            .and_then(|place| shape.get(place))
            // SAFETY: looks the collation of a column up in the system's caches; it cannot be dropped before the column.
            .is_some_and(|column| unsafe {
                pg_sys::get_collation_isdeterministic(column.attcollation)
            })
    }

    /// Whether the row has a column of this name, and NULL in it.
    pub fn is_null(self, name: &str) -> bool {
        let column = self.column(name);
        column.is_some_and(|(number, _)| self.datum(number).is_none())
    }

    /// The deletion that the row belongs to.
    pub fn deletion(self) -> Option<Uuid> {
        let (number, _) = self.column("deletion_id")?;
        self.read(number)
    }

    /// Whether a column has the same bytes in another row of the same table, or is NULL in both.
    pub fn has_same(self, other: Self, name: &str) -> bool {
        self.column(name)
            .is_some_and(|(number, _)| self.has_same_at(other, number))
    }

    /// The same for the column with this number.
    pub fn has_same_at(self, other: Self, number: i32) -> bool {
        // SAFETY: the descriptor is valid as long as the row is, and is not released here.
        let shape = unsafe { PgTupleDesc::from_pg_unchecked(self.shape()) };
        let column = usize::try_from(number - 1).ok();
        let column = column.and_then(|place| shape.get(place));
        let Some(column) = column.filter(|column| !column.attisdropped) else {
            return false;
        };
        match (self.datum(number), other.datum(number)) {
            // SAFETY: both rows are of the trigger's relation, so the column says how both values are stored.
            (Some(one), Some(another)) => unsafe {
                pg_sys::datumIsEqual(one, another, column.attbyval, i32::from(column.attlen))
            },
            (one, another) => one.is_none() && another.is_none(),
        }
    }

    /// The columns `deleted_at` and `deletion_id`, which the graph knows by these numbers. `None`
    /// where they are others by now, or of other types.
    pub fn marks(self, numbers: [i16; 2]) -> Option<Marks<'call>> {
        let numbers = numbers.map(i32::from);
        let fit = [pg_sys::TIMESTAMPTZOID, pg_sys::UUIDOID];
        let marks = Marks { row: self, numbers };
        (numbers.map(|number| self.type_of(number)) == fit.map(Some)).then_some(marks)
    }
}

impl<'call> Marks<'call> {
    /// Which of them are NULL.
    pub fn are_null(self) -> [bool; 2] {
        // SAFETY: both are columns of the row, which has this shape.
        self.numbers.map(|number| unsafe {
            pg_sys::heap_attisnull(self.row.tuple(), number, self.row.shape())
        })
    }

    /// When and by which deletion the row was deleted; `None` where one of them is NULL.
    pub fn read(self) -> Option<(pg_sys::TimestampTz, Uuid)> {
        let [deleted_at, deletion_id] = self.numbers;
        // A timestamp is read as the number that it is stored as: `marks` has looked at its type.
        let since = self.row.datum(deleted_at)?.value() as pg_sys::TimestampTz;
        Some((since, self.row.read(deletion_id)?))
    }

    /// The row with these marks.
    pub fn set(self, since: pg_sys::TimestampTz, deletion: Uuid) -> Row<'call> {
        let mut id = *deletion.as_bytes();
        let mut values = [
            pg_sys::Datum::from(since),
            pg_sys::Datum::from(id.as_mut_ptr()),
        ];
        // SAFETY: the columns are those of the row's shape and have these types (`Row::marks`), a uuid
        // being a pointer to its bytes, which are copied. The row is made in the memory of the
        // trigger's call, where the executor expects it.
        unsafe {
            let tuple = pg_sys::heap_modify_tuple_by_cols(
                self.row.tuple(),
                self.row.shape(),
                2,
                self.numbers.as_ptr().cast_mut(),
                values.as_mut_ptr(),
                [false; 2].as_mut_ptr(),
            );
            Row {
                tuple: &*tuple,
                shape: self.row.shape,
            }
        }
    }
}
