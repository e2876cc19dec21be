"""The commands of the package; none of them imports torch before it must."""
