import java.io.File;
import java.nio.file.Files;
import org.eclipse.jgit.api.CloneCommand;
import org.eclipse.jgit.api.Git;
import org.eclipse.jgit.transport.RefSpec;

/** JGit, in any release since 4: actions as in README.md. */
public class WithJGit {
    public static void main(String[] words) throws Exception {
        String action = words[0];
        File folder = new File(words[2]);
        if (action.equals("clone") || action.equals("shallow")) {
            CloneCommand command = Git.cloneRepository().setURI(words[1]).setDirectory(folder);
            if (action.equals("shallow")) {
                CloneCommand.class.getMethod("setDepth", int.class).invoke(command, 2); // since 6.5
            }
            command.call().close();
            return;
        }
        try (Git git = Git.open(folder)) {
            if (action.equals("fetch")) {
                git.fetch().call();
            } else if (action.equals("push")) {
                Files.write(new File(folder, "jgit.txt").toPath(), "x".getBytes());
                git.add().addFilepattern("jgit.txt").call();
                git.commit().setMessage("jgit").setAuthor("A", "a@b").setCommitter("A", "a@b").call();
                git.push().setRefSpecs(new RefSpec("refs/heads/main")).call().forEach(result -> result.getRemoteUpdates());
            } else {
                git.push().setRefSpecs(new RefSpec(":refs/heads/topic")).call().forEach(result -> result.getRemoteUpdates());
            }
        }
    }
}
