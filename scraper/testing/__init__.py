"""What the framework's own tests stand on, shipped so that plugins and spiders can use it."""
