/* Starts programs: a button for each desktop file that is named on the command line, and an entry whose text is shown
   below it and printed. What is done is said on standard output. */
#include <gio/gdesktopappinfo.h>
#include <gtk/gtk.h>

static void start(GtkButton *button, gpointer program) {
    g_autoptr(GError) error = NULL;
    (void)button;
    if (g_app_info_launch(G_APP_INFO(program), NULL, NULL, &error))
        g_print("started %s\n", g_app_info_get_id(G_APP_INFO(program)));
    else
        g_printerr("panel: %s: %s\n", g_app_info_get_name(G_APP_INFO(program)), error->message);
}

static void say(GtkEntry *entry, gpointer label) {
    gtk_label_set_text(GTK_LABEL(label), gtk_entry_get_text(entry));
    g_print("said %s\n", gtk_entry_get_text(entry));
    gtk_entry_set_text(entry, "");
}

static GtkWidget *button_of(GDesktopAppInfo *program) {
    GtkWidget *button = gtk_button_new_with_label(g_app_info_get_name(G_APP_INFO(program)));
    GIcon *icon = g_app_info_get_icon(G_APP_INFO(program));
    if (icon != NULL) gtk_button_set_image(GTK_BUTTON(button), gtk_image_new_from_gicon(icon, GTK_ICON_SIZE_DIALOG));
    gtk_button_set_always_show_image(GTK_BUTTON(button), TRUE);
    gtk_button_set_image_position(GTK_BUTTON(button), GTK_POS_TOP);
    g_signal_connect(button, "clicked", G_CALLBACK(start), program);
    return button;
}

int main(int argc, char **argv) {
    gtk_init(&argc, &argv);
    GtkWidget *window = gtk_window_new(GTK_WINDOW_TOPLEVEL);
    GtkWidget *rows = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    GtkWidget *buttons = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    GtkWidget *entry = gtk_entry_new();
    GtkWidget *label = gtk_label_new("No X11, no Wayland: GTK in a browser");

    for (int i = 1; i < argc; i++) {
        GDesktopAppInfo *program = g_desktop_app_info_new(argv[i]);
        if (program == NULL)
            g_printerr("panel: there is no %s\n", argv[i]);
        else
            gtk_box_pack_start(GTK_BOX(buttons), button_of(program), TRUE, TRUE, 0);
    }
    gtk_entry_set_placeholder_text(GTK_ENTRY(entry), "Say something");
    g_signal_connect(entry, "activate", G_CALLBACK(say), label);
    gtk_box_pack_start(GTK_BOX(rows), buttons, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(rows), entry, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(rows), label, FALSE, FALSE, 0);
    gtk_container_add(GTK_CONTAINER(window), rows);
    gtk_container_set_border_width(GTK_CONTAINER(window), 6);
    gtk_window_set_title(GTK_WINDOW(window), "Broadway");
    gtk_window_set_deletable(GTK_WINDOW(window), FALSE);
    g_signal_connect(window, "delete-event", G_CALLBACK(gtk_true), NULL);
    gtk_widget_show_all(window);
    g_print("ready\n");
    gtk_main();
    return 0;
}
