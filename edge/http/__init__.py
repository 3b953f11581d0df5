"""HTTP's rules for a shared cache, as pure functions of parsed values and `now`. No I/O, no clock."""
