"""The command ``f1buf``: its arguments (`cli`), how it runs (`runner`), what people see (`console`, `view`)."""
