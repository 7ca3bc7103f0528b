"""Tables of gene expression: files, names of genes, units, scale."""
